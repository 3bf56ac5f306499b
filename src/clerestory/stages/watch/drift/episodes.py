"""When a shift that raised an alarm is over, so that a replay can go on and find the next one.

After an alarm each window is projected on the direction of the shift. Page's CUSUM compares two means: that of the
reference, and half of what the windows of the alarm showed (half, because the direction was chosen on these windows and
exaggerates). At ``ENOUGH`` the traffic is back at the reference; the shift ended where the CUSUM began to rise.

Source: Page, Continuous inspection schemes, Biometrika 1954.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clerestory.stages.watch.drift.alarms import DriftAlarm
from clerestory.stats.drift_features import Matrix

ENOUGH = float(np.log(1_000))  # of the log-likelihood ratio
MAX_STANDARD = 40.0  # standard errors


@dataclass
class DriftEpisode:
    """A shift from its alarm to its end.

    Attributes:
        alarm: that found it.
        until_window: its last window; None if it lasts to the end of the history.
        until: the time of the last observation of this window; None without times, or if it lasts.
    """

    alarm: DriftAlarm
    until_window: int | None = None
    until: float | None = None


class EndOfShift:
    """Follows one shift; see the module.

    Args:
        episode: whose end is set when it is found.
        witness_D: the direction of the shift.
        reference_ND: features of the reference.
        recent_ND: features of the windows of the alarm.
        window: the number of observations of a window.
    """

    def __init__(
        self, episode: DriftEpisode, witness_D: Matrix, reference_ND: Matrix, recent_ND: Matrix, window: int
    ) -> None:
        scores = reference_ND @ witness_D
        self.episode = episode
        self.witness_D = witness_D
        self._centre = float(scores.mean())
        self._error = float(scores.std()) / np.sqrt(window) or 1e-12
        self._shift = max(1.0, self._standard(recent_ND) / 2)
        self._cusum = 0.0
        self._last = (episode.alarm.window, episode.alarm.at)

    def step(self, live_ND: Matrix, window: int, at: float | None) -> bool:
        """Take the next window; whether the shift is over."""
        self._cusum += self._shift * (self._shift / 2 - self._standard(live_ND))
        if self._cusum <= 0:
            self._cusum, self._last = 0.0, (window, at)
        if self._cusum < ENOUGH:
            return False
        self.episode.until_window, self.episode.until = self._last
        return True

    def _standard(self, live_ND: Matrix) -> float:
        """The mean along the direction, in standard errors of a window."""
        mean = float((live_ND @ self.witness_D).mean())
        return float(np.clip((mean - self._centre) / self._error, -MAX_STANDARD, MAX_STANDARD))
