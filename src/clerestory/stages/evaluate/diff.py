"""What has changed since earlier evidence: which suites are stale, and which numbers differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.release import Release
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationRequest
from clerestory.stages.evaluate.fingerprint import KIND, suite_kind, suite_subject
from clerestory.stages.evaluate.suites import select_suites
from clerestory.stats.metrics import metric
from clerestory.store import Store

Freshness = Literal["fresh", "stale", "missing"]


@dataclass(frozen=True, slots=True)
class SuiteState:
    """The evidence of one suite for a model.

    Attributes:
        name: such as ``corruption``.
        description: what the suite evaluates, in a few plain words.
        state: ``fresh``, ``stale`` or ``missing``.
        changed: what differs from the evidence: ``data``, ``code``, ``config``, ``environment``.
        created: when the evidence was created, ISO 8601; empty when it is missing.
        seconds: how long that took; 0 when it is missing.
        id: of the evidence; empty when it is missing.
    """

    name: str
    description: str
    state: Freshness
    changed: tuple[str, ...] = ()
    created: str = ""
    seconds: float = 0.0
    id: str = ""


@dataclass(frozen=True, slots=True)
class MeasurementChange:
    """A number that differs between two evaluations.

    Attributes:
        before, after: the two measurements, of one name and slice.
        worse: the number changed for the worse.
        significant: each value lies outside the other's interval; always for numbers without intervals.
        machine_dependent: the number also depends on what else the machine is doing, as latencies do.
    """

    before: Measurement
    after: Measurement
    worse: bool
    significant: bool
    machine_dependent: bool

    @property
    def regression(self) -> bool:
        """Worse, by more than uncertainty and the machine explain."""
        return self.worse and self.significant and not self.machine_dependent


@dataclass(frozen=True, slots=True)
class EvaluationDiff:
    """Two evaluations compared number by number.

    Attributes:
        changed: the numbers that differ, regressions first.
        same: how many are equal.
        new: how many are in the later evaluation only.
        gone: how many are in the earlier evaluation only.
    """

    changed: tuple[MeasurementChange, ...]
    same: int
    new: int
    gone: int

    @property
    def regressions(self) -> tuple[MeasurementChange, ...]:
        """The changes that need attention."""
        return tuple(change for change in self.changed if change.regression)


def diff_evaluations(before: Evidence, after: Evidence) -> EvaluationDiff:
    """Compare the measurements of two evaluations."""
    old = {measurement.key: measurement for measurement in before.measurements}
    new = {measurement.key: measurement for measurement in after.measurements}
    shared = [(old[key], new[key]) for key in new if key in old]
    changed = [_change(one, two) for one, two in shared if one.value != two.value]
    changed.sort(key=lambda change: (not change.regression, not change.significant, not change.worse))
    return EvaluationDiff(tuple(changed), len(shared) - len(changed), len(new) - len(shared), len(old) - len(shared))


def _change(before: Measurement, after: Measurement) -> MeasurementChange:
    fell = after.value < before.value
    worse = after.direction != "none" and fell == (after.direction == "higher")
    significant = _outside(before.value, after) and _outside(after.value, before)
    return MeasurementChange(before, after, worse, significant, metric(after.name).machine_dependent)


def _outside(value: float, measurement: Measurement) -> bool:
    interval = measurement.interval
    return interval is None or not interval.low <= value <= interval.high


def freshness(model: str, data: str, store: Store, config: EvaluateConfig | None = None) -> list[SuiteState]:
    """The state of every suite for a model (digest) on data (digest); runs nothing."""
    config = config or EvaluateConfig()
    request = EvaluationRequest(model, data, config, store)
    states = []
    for suite in select_suites(config.suites):
        today = suite_subject(suite, request)
        stored = store.find_evidence(suite_kind(suite), model=model)
        if not stored:
            states.append(SuiteState(suite.name, suite.description, "missing"))
            continue
        best = min(stored, key=lambda each: len(each.subject.differing_fields(today)))
        changed = best.subject.differing_fields(today)
        state: Freshness = "stale" if changed else "fresh"
        seconds = best.cost.seconds
        states.append(SuiteState(suite.name, suite.description, state, changed, best.created, seconds, best.id))
    return states


def release_freshness(store: Store, release: Release, data: str = "") -> list[SuiteState]:
    """The state of every suite for a release's model; settings other than the defaults do not make a suite stale.

    Args:
        store: holds the evidence.
        release: the release.
        data: digest of the current data; that of the release's own evaluation when empty.
    """
    if not data:
        stored = store.find_evidence(KIND, model=release.model)
        data = stored[0].subject.data if stored else ""
    return [_ignoring_settings(state) for state in freshness(release.model, data, store)]


def _ignoring_settings(state: SuiteState) -> SuiteState:
    changed = tuple(name for name in state.changed if name != "config")
    if state.created and not changed:
        return replace(state, changed=(), state="fresh")
    return replace(state, changed=changed)
