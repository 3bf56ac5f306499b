"""Detect that observations are no longer like a reference, with a bound on the number of false alarms.

A window has n live observations and, as its counterpart, n held-out observations of the reference that were never used
before. A *witness* direction w, the difference of recent live windows and the reference, is known before the window.
If nothing has changed, live and counterpart can be swapped, so the Welch statistic t of their projections on w is
symmetric around zero given the past, and every factor ``1 + tanh(b t)`` has mean 1, whatever the distribution is. The
Shiryaev–Roberts statistic with a budget

    M ← (M + spend) · (1 + tanh(b t)),   alarm at M ≥ 1

then satisfies: **the expected number of false alarms is at most the sum of what was spent**, over any horizon and also
with resets after alarms, because ``M + alarms - spent`` is a supermartingale. With a constant spend of 1/A this is the
usual form (alarm at A, average run length at least A). Spending by the clock instead, a year's budget per year, keeps
the promise "at most one false alarm a year" at any traffic. A mean over components (several memories of the witness,
several slopes b) keeps it too. Over several detectors, what they spend adds up.

Assumptions:

- a window and its counterpart are exchangeable given the past: windows are independent of one another, and the held-out
  observations come from the same distribution as live traffic without drift;
- exact while the held-out observations last. Afterwards they are drawn again, and a finite reference cannot show a
  difference that is smaller than its own sampling error: from then on t is lowered by ``REUSE_TOLERANCE`` standard
  errors of the held-out mean along the witness, which never depends on the held-out observations. That bound is
  approximate (the false alarms are measured, see ``docs/how-to/watch-for-drift.md``), and a smaller shift is not found.

It bounds an expected number. It is not a promise that a year without drift has no false alarm.

Sources: the Shiryaev–Roberts e-detector, Shin, Ramdas, Rinaldo (2023); testing by betting with a witness function,
Shekhar, Ramdas (2023); bets on symmetry, Ramdas, Ruf, Larsson, Koolen (2020).

Shapes: N observations, D features, R memories of the witness, B slopes.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from clerestory.core.errors import DataError
from clerestory.stats.drift_features import Matrix

MEMORY_RATES = np.array([0.3, 0.1, 0.03])  # of the moving averages of live windows
SLOPES = np.array([0.15, 0.3, 0.6, 1.2])
REUSE_TOLERANCE = 3.0  # standard errors
MIN_WINDOWS_OF_REFERENCE = 4  # half of them to fit, half held out
STATE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class DriftStep:
    """What one window showed.

    Attributes:
        window: its number, from 1.
        evidence: the statistic after it; an alarm at 1.
        alarm: whether it raised an alarm.
        distance: the Welch statistic along the witness of the strongest component; 0 for the first window.
        fresh: whether its counterpart was never used before.
        rising_since: the first window of the rise of the evidence, where the change probably began.
    """

    window: int
    evidence: float
    alarm: bool
    distance: float
    fresh: bool
    rising_since: int


class DriftDetector:
    """The detector for one stream of windows; see the module.

    After an alarm it is latched: it goes on counting windows and raises no other alarm until ``reset``.

    Args:
        reference_ND: features of the reference. A random half, by ``seed``, estimates the mean; the other half is held
            out.
        window: the number of observations of a window.
        seed: of the halves and of the order in which held-out observations are used.

    Raises:
        DataError: the reference has fewer than four windows of observations.
    """

    def __init__(self, reference_ND: Matrix, window: int, seed: int = 0) -> None:
        needed = MIN_WINDOWS_OF_REFERENCE * window
        if len(reference_ND) < needed:
            raise DataError(
                f"the reference has {len(reference_ND):,} usable observations, and windows of {window} need {needed:,}",
                "use a larger reference or smaller windows",
            )
        order = np.random.default_rng([seed, 2]).permutation(len(reference_ND))
        half = len(order) // 2
        self.window = window
        self._seed = seed
        self._mean_D = reference_ND[order[:half]].mean(axis=0)
        self._held_ND = reference_ND[order[half:]]
        self._tolerance = REUSE_TOLERANCE * float(np.sqrt(window / (2 * len(self._held_ND))))
        self.latched = False
        self.num_windows = 0
        self.spent = 0.0
        self._epoch, self._position = 0, 0
        self._order = self._permutation()
        self._sums_RD = np.zeros((len(MEMORY_RATES), reference_ND.shape[1]))
        self._weights_R = np.zeros(len(MEMORY_RATES))
        shape = (len(MEMORY_RATES), len(SLOPES))
        self._evidence_RB = np.zeros(shape)
        self._cusum_RB, self._since_RB = np.zeros(shape), np.zeros(shape, dtype=np.int64)

    @property
    def rising_since(self) -> int:
        """The first window of the rise of the evidence: where a change most probably began (the start of the CUSUM)."""
        return int(self._since_RB.flat[self._evidence_RB.argmax()])

    @property
    def evidence(self) -> float:
        """The statistic; an alarm is raised at 1."""
        return float(self._evidence_RB.mean())

    @property
    def num_fresh_windows(self) -> int:
        """How many windows have a counterpart that was never used before, before the bound becomes approximate."""
        return len(self._held_ND) // self.window

    @property
    def witness_D(self) -> Matrix:
        """The direction from the reference to recent live windows, of the component with the strongest evidence."""
        strongest = int(self._evidence_RB.max(axis=1).argmax())
        witness_D: Matrix = self._witnesses()[strongest]
        return witness_D

    @property
    def reference_mean_D(self) -> Matrix:
        """The mean of the features of the fitted half of the reference."""
        mean_D: Matrix = self._mean_D
        return mean_D

    def step(self, live_ND: Matrix, spend: float) -> DriftStep:
        """Take one window of live features.

        Args:
            live_ND: its features; exactly ``window`` rows.
            spend: the part of the budget of false alarms that may be spent on this window, known before it.

        Raises:
            ValueError: the window has another size, or the spend is not in (0, 1].
        """
        if len(live_ND) != self.window or not 0 < spend <= 1:
            raise ValueError(f"a window has {self.window} rows and a spend in (0, 1], not {len(live_ND)} and {spend}")
        self.num_windows += 1
        counterpart_ND, fresh = self._counterpart()
        distance, alarm = 0.0, False
        if not self.latched:
            self.spent += spend
            self._evidence_RB += spend
            if self.num_windows > 1:
                t_R = self._distances(live_ND, counterpart_ND, fresh)
                factor_RB = 2 / (1 + np.exp(-2 * SLOPES[None] * t_R[:, None]))
                self._evidence_RB *= factor_RB
                self._since_RB = np.where(self._cusum_RB <= 1, self.num_windows, self._since_RB)
                self._cusum_RB = np.maximum(self._cusum_RB, 1) * factor_RB
                distance = float(t_R[self._evidence_RB.max(axis=1).argmax()])
            alarm = self.latched = self.evidence >= 1
        self._remember(live_ND)
        return DriftStep(self.num_windows, self.evidence, alarm, distance, fresh, self.rising_since)

    def reset(self) -> None:
        """Start again after an alarm: the evidence and the memory of live windows are emptied; the budget goes on."""
        self.latched = False
        for array in (self._evidence_RB, self._cusum_RB, self._sums_RD, self._weights_R):
            array[:] = 0
        self._since_RB[:] = self.num_windows + 1

    def state(self) -> bytes:
        """Everything that changes, to go on in another process bit for bit with the same reference and seed."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            numbers=np.array([STATE_FORMAT, self.num_windows, self._epoch, self._position]),
            flags=np.array([self.latched]),
            spent=np.array([self.spent]),
            sums=self._sums_RD,
            weights=self._weights_R,
            evidence=self._evidence_RB,
            cusum=self._cusum_RB,
            since=self._since_RB,
        )
        return buffer.getvalue()

    def restore(self, state: bytes) -> None:
        """Go on from a ``state``.

        Raises:
            DataError: it is of another reference or another version.
        """
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                kept = {name: arrays[name] for name in arrays.files}
            numbers = [int(number) for number in kept["numbers"]]
            fits = numbers[0] == STATE_FORMAT and kept["sums"].shape == self._sums_RD.shape
        except (ValueError, OSError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
            raise DataError("the state of the drift detector cannot be read", "reset the monitor") from error
        if not fits:
            raise DataError("the state is of another drift detector", "reset the monitor")
        _, self.num_windows, self._epoch, self._position = numbers
        self.latched, self.spent = bool(kept["flags"][0]), float(kept["spent"][0])
        self._order = self._permutation()
        self._sums_RD, self._weights_R, self._evidence_RB = kept["sums"], kept["weights"], kept["evidence"]
        self._cusum_RB, self._since_RB = kept["cusum"], kept["since"]

    def _permutation(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        rng = np.random.default_rng([self._seed, 3, self._epoch])
        return rng.permutation(len(self._held_ND)).astype(np.int64)

    def _counterpart(self) -> tuple[Matrix, bool]:
        if self._position + self.window > len(self._held_ND):
            self._epoch, self._position = self._epoch + 1, 0
            self._order = self._permutation()
        rows = self._order[self._position : self._position + self.window]
        self._position += self.window
        return self._held_ND[rows], self._epoch == 0

    def _witnesses(self) -> Matrix:
        """(R, D); zero before the first window."""
        weights_R = np.where(self._weights_R > 0, self._weights_R, 1.0)
        witnesses_RD: Matrix = self._sums_RD / weights_R[:, None] - self._mean_D
        return np.where((self._weights_R > 0)[:, None], witnesses_RD, 0.0)

    def _distances(self, live_ND: Matrix, counterpart_ND: Matrix, fresh: bool) -> Matrix:
        """The Welch statistic along each witness (R); swapping the two samples changes its sign only."""
        witness_DR = self._witnesses().T
        live_NR, other_NR = live_ND @ witness_DR, counterpart_ND @ witness_DR
        difference_R = live_NR.mean(axis=0) - other_NR.mean(axis=0)
        variance_R = (live_NR.var(axis=0) + other_NR.var(axis=0)) / max(1, self.window - 1)
        scale_R = np.sqrt(variance_R) + 1e-12 * np.linalg.norm(witness_DR, axis=0) + 1e-300
        t_R = np.where(difference_R == 0, 0.0, difference_R / scale_R)
        clipped_R: Matrix = np.clip(t_R if fresh else t_R - self._tolerance, -40.0, 40.0)
        return clipped_R

    def _remember(self, live_ND: Matrix) -> None:
        mean_D = live_ND.mean(axis=0)
        self._sums_RD = self._sums_RD * (1 - MEMORY_RATES)[:, None] + MEMORY_RATES[:, None] * mean_D
        self._weights_R = self._weights_R * (1 - MEMORY_RATES) + MEMORY_RATES
