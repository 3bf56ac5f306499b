"""Detects training failures from one record per step and reports each of them once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clerestory.core.codec import Facts
from clerestory.core.evidence import Finding
from clerestory.stages.train.monitor.detectors import ALL, Detector, Symptom
from clerestory.stages.train.monitor.record import StepRecord
from clerestory.stages.train.monitor.thresholds import DEFAULT, MonitorThresholds


@dataclass(slots=True)
class _DetectorState:
    """The state of one detector.

    Attributes:
        detector: the detector.
        unhealthy, healthy: consecutive symptoms, and consecutive checks without one.
        active: whether the failure is currently present.
        first, last: the steps of its first and its latest report; 0: never.
        message, details: of the latest symptom.
    """

    detector: Detector
    unhealthy: int = 0
    healthy: int = 0
    active: bool = False
    first: int = 0
    last: int = 0
    message: str = ""
    details: Facts = field(default_factory=Facts)


class Monitor:
    """Checks a run by its records.

    A failure is reported when its symptom was present in several consecutive records (how many depends on the failure),
    and only once per run, even if it recurs; ``findings`` gives the steps between which it was present.

    Args:
        thresholds: when a metric counts as a symptom.

    Attributes:
        full_rate_steps: steps so far, each counted by its share of the peak learning rate.
    """

    def __init__(self, thresholds: MonitorThresholds = DEFAULT) -> None:
        self.full_rate_steps = 0.0
        self._peak_lr = 0.0
        self._states = [_DetectorState(detector(thresholds)) for detector in ALL]

    def step(self, record: StepRecord) -> list[Finding]:
        """The failures that are reported for the first time with this record; empty for most steps."""
        if record.lr is not None:
            self._peak_lr = max(self._peak_lr, record.peak_lr or record.lr)
            self.full_rate_steps += record.lr / self._peak_lr if self._peak_lr > 0 else 0.0
        reported = []
        for state in self._states:
            symptom = state.detector.check(record, self.full_rate_steps, state.active)
            if symptom is not None and self._update(state, symptom, record.step):
                reported.append(_finding(state, recovered=False))
        return reported

    def findings(self) -> tuple[Finding, ...]:
        """Every failure reported so far, in the order of its first report, and whether the run recovered from it."""
        reported = sorted((state for state in self._states if state.first), key=lambda state: state.first)
        return tuple(_finding(state, recovered=not state.active) for state in reported)

    @staticmethod
    def _update(state: _DetectorState, symptom: Symptom, step: int) -> bool:
        """Count the symptom; True if the failure must be reported now, for the first time."""
        patience = state.detector.patience
        if symptom.present:
            state.unhealthy, state.healthy = state.unhealthy + 1, 0
            if state.unhealthy >= patience:
                state.active, state.last = True, step
                state.message, state.details = symptom.message, symptom.details
                if not state.first:
                    state.first = step
                    return True
        else:
            state.unhealthy, state.healthy = 0, state.healthy + 1
            if state.healthy >= patience:
                state.active = False
        return False


def _finding(state: _DetectorState, recovered: bool) -> Finding:
    span = f"step {state.first}" if state.first == state.last else f"steps {state.first} to {state.last}"
    numbers: dict[str, Any] = dict(state.details)
    return state.detector.code.finding(
        state.detector.where,
        f"{span}: {state.message}" + ("; the run has recovered" if recovered else ""),
        state="warn" if recovered else "fail",
        **numbers,
        first_step=state.first,
        last_step=state.last,
        recovered=recovered,
    )
