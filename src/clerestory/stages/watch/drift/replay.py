"""Replay a history: which alarms the monitors would have raised, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from clerestory.core.errors import DataError, Undecided
from clerestory.core.progress import QUIET, Progress
from clerestory.stages.watch.drift.alarms import DriftAlarm
from clerestory.stages.watch.drift.episodes import DriftEpisode
from clerestory.stages.watch.drift.monitors import DriftMonitors
from clerestory.stages.watch.drift.observations import ObservationTable
from clerestory.stages.watch.drift.settings import DriftSettings
from clerestory.stats.alarm_budget import MIN_WINDOWS_PER_ALARM, min_windows, per_day, window_spend
from clerestory.stats.drift import DriftDetector
from clerestory.stats.drift_features import FourierFeatures

SIMULATIONS = 9
MAX_SIMULATED = 400  # windows


@dataclass(frozen=True)
class DriftReplay:
    """The result of a replay.

    Attributes:
        traffic: what was replayed.
        monitors: with the evidence of every window.
        alarms: in the order in which they were raised; a monitor raises another one only after the shift has ended.
        num_windows: of all traffic.
        windows_per_day: of all traffic; NaN without times.
        windows_per_alarm: the average number of windows between two false alarms, of each monitor.
        min_windows: fewer windows cannot raise an alarm.
    """

    traffic: ObservationTable
    monitors: DriftMonitors
    alarms: tuple[DriftAlarm, ...]
    num_windows: int
    windows_per_day: float
    windows_per_alarm: float
    min_windows: int

    def episode_of(self, alarm: DriftAlarm) -> DriftEpisode:
        """The shift that an alarm found."""
        monitors = self.monitors.monitors
        return next(one for each in monitors for one in each.episodes if one.alarm is alarm)

    @property
    def num_in_reference(self) -> int:
        """How many observations are also in the reference: the same embedding, or the whole log where there is none."""
        traffic, reference = self.traffic, self.monitors.reference
        if traffic.embeddings is not None and reference.embeddings is not None:
            known = {row.tobytes() for row in reference.embeddings}
            return sum(row.tobytes() in known for row in traffic.embeddings)
        digest = traffic.identity.get("log")
        is_same = bool(digest) and digest == reference.identity.get("log") and len(traffic) == len(reference)
        return len(traffic) if is_same and list(traffic.ids) == list(reference.ids) else 0

    @property
    def is_undecided(self) -> bool:
        """Whether there are too few windows for any alarm."""
        return not self.alarms and self.num_windows < self.min_windows


def replay_drift(
    traffic: ObservationTable, reference: ObservationTable, settings: DriftSettings, progress: Progress = QUIET
) -> DriftReplay:
    """Feed a history to new monitors, in its order.

    Raises:
        DataError: the reference is too small, of another width, or has nothing in common with the traffic.
    """
    if traffic.embeddings is not None and reference.embeddings is not None:
        widths = traffic.embeddings.shape[1], reference.embeddings.shape[1]
        if widths[0] != widths[1]:
            raise DataError(
                f"the embeddings have {widths[0]:,} numbers in {traffic.name} and {widths[1]:,} in {reference.name}",
                "embed both with the same model",
            )
    if traffic.times is not None and len(traffic) > 1 and traffic.times[0] == traffic.times[-1]:
        # A budget by the clock would be empty.
        note = "all observations have the same time, so they are taken in their order"
        traffic = replace(traffic, times=None, notes=(*traffic.notes, note))
    monitors = DriftMonitors(reference, settings, traffic.columns, restart=True)
    alarms: list[DriftAlarm] = []
    with progress.task("Replaying", len(traffic)) as bar:
        for observation in traffic.observations():
            alarms += monitors.observe(observation)
            bar.advance()
    points = next((each.points for each in monitors.monitors), None) or ()
    num_windows = (monitors.num_observed - sum(monitors.left_out.values())) // settings.window
    elapsed = float(traffic.times[-1] - traffic.times[0]) if traffic.times is not None and len(traffic) else 0.0
    if points:
        # The mean and not the median: of images that are dated by the day most windows take no time at all.
        spend = float(np.mean([point.spend for point in points]))
    elif elapsed > 0:
        per_window = elapsed * settings.window / (len(traffic) - 1)
        spend = window_spend(settings.max_false_alarms_per_year, per_window, monitors.share)
    elif traffic.times is not None:
        spend = monitors.share / MIN_WINDOWS_PER_ALARM  # of one observation no rate is known; this is the loosest limit
    else:
        spend = monitors.share / settings.windows_per_false_alarm
    return DriftReplay(
        traffic,
        monitors,
        tuple(alarms),
        num_windows,
        per_day(num_windows, elapsed),
        1 / spend,
        min_windows(max((point.spend for point in points), default=spend)),
    )


def split_by_time(table: ObservationTable, until: float) -> tuple[ObservationTable, ObservationTable]:
    """The observations before a time, as the reference, and the others.

    Raises:
        Undecided: there are none on one of the two sides, or there are no times.
    """
    if table.times is None:
        raise Undecided(f"{table.name} has no times", "name the reference with --reference")
    before = np.flatnonzero(table.times < until)
    after = np.flatnonzero(table.times >= until)
    if not len(before) or not len(after):
        side = "before" if not len(before) else "after"
        raise Undecided(f"{table.name} has no observation {side} that date", "choose another date with --until")
    reference = replace(table.take(before), name=f"{table.name} before the date")
    return reference, replace(table.take(after), left_out=table.left_out, notes=table.notes)


def windows_to_detect(reference: ObservationTable, settings: DriftSettings, spend: float, shift: float) -> float:
    """The median number of windows until a shift of the embeddings is found, simulated on the reference.

    Windows are drawn from the reference and moved along a random direction in which it varies.

    Args:
        reference: with embeddings.
        settings: the window and the seed.
        spend: of a window, as the monitor has it.
        shift: in standard deviations along the direction.

    Returns:
        Infinity if more than half of the simulations find nothing in ``MAX_SIMULATED`` windows; NaN without embeddings.
    """
    rows = reference.embeddings
    if rows is None:
        return float("nan")
    features = FourierFeatures.fit(rows, settings.seed)
    reference_features = features(rows)
    centred = rows - rows.mean(axis=0)
    delays = []
    for trial in range(SIMULATIONS):
        rng = np.random.default_rng([settings.seed, 4, trial])
        direction = rng.standard_normal(min(len(rows), 512)) @ centred[rng.permutation(len(rows))[:512]]
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
        moved = shift * float((centred @ direction).std()) * direction
        detector = DriftDetector(reference_features, settings.window, settings.seed + trial)
        delays.append(float("inf"))
        for window in range(MAX_SIMULATED):
            live = rows[rng.integers(0, len(rows), settings.window)] + moved
            if detector.step(features(live), spend).alarm:
                delays[-1] = window + 1.0
                break
    return float(np.median(delays))
