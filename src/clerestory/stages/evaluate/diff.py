"""What changed in the numbers since an earlier evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.release import Release
from clerestory.stages.evaluate.freshness import SuiteState, freshness
from clerestory.stats.metrics import metric
from clerestory.store import Store


@dataclass(frozen=True, slots=True)
class MeasurementChange:
    """A number that is not what it was.

    Attributes:
        before, after: the two measurements, of one name and slice.
        worse: it went the wrong way.
        beyond: either value lies outside the other's interval, so that uncertainty does not explain it; of numbers
            without intervals always.
        machine: it depends on whatever else the machine is doing, as waiting times do.
    """

    before: Measurement
    after: Measurement
    worse: bool
    beyond: bool
    machine: bool

    @property
    def alarming(self) -> bool:
        """Worse, by more than uncertainty and a busy machine explain."""
        return self.worse and self.beyond and not self.machine


@dataclass(frozen=True, slots=True)
class EvaluationDiff:
    """Two evaluations, number by number.

    Attributes:
        changed: the numbers that differ, the alarming ones first.
        same: how many are exactly what they were.
        new: how many there were not before.
        gone: how many there are no longer.
    """

    changed: tuple[MeasurementChange, ...]
    same: int
    new: int
    gone: int

    @property
    def alarming(self) -> tuple[MeasurementChange, ...]:
        """Those that somebody should look at."""
        return tuple(change for change in self.changed if change.alarming)


def changes(before: Evidence, after: Evidence) -> EvaluationDiff:
    """What is different in the measurements of two evaluations."""
    old = {measured.key: measured for measured in before.measurements}
    new = {measured.key: measured for measured in after.measurements}
    shared = [(old[key], new[key]) for key in new if key in old]
    changed = [_change(one, two) for one, two in shared if one.value != two.value]
    changed.sort(key=lambda change: (not change.alarming, not change.beyond, not change.worse))
    return EvaluationDiff(tuple(changed), len(shared) - len(changed), len(new) - len(shared), len(old) - len(shared))


def _change(before: Measurement, after: Measurement) -> MeasurementChange:
    fell = after.value < before.value
    worse = after.direction != "none" and fell == (after.direction == "higher")
    beyond = _outside(before.value, after) and _outside(after.value, before)
    machine = metric(after.name).machine_dependent
    return MeasurementChange(before, after, worse, beyond, machine)


def _outside(value: float, measured: Measurement) -> bool:
    interval = measured.interval
    return interval is None or not interval.low <= value <= interval.high


def release_freshness(store: Store, release: Release, data: str = "") -> list[SuiteState]:
    """The state of every part for a release's model; other settings than the usual ones do not make a part stale.

    Args:
        store: where evidence is.
        release: the release.
        data: digest of the data of today; that of the release's own examination when empty.
    """
    if not data:
        held = store.find_evidence("evaluate", model=release.model)
        data = held[0].subject.data if held else ""
    return [_whatever_settings(state) for state in freshness(release.model, data, store)]


def _whatever_settings(state: SuiteState) -> SuiteState:
    changed = tuple(name for name in state.changed if name != "config")
    return (
        replace(state, changed=changed, state="fresh")
        if state.made and not changed
        else replace(state, changed=changed)
    )
