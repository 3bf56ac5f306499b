"""Names what goes wrong in a training, once each, from one record a step."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.evidence import Finding
from clerestory.stages.train.monitor.detectors import ALL, Detector, Symptom
from clerestory.stages.train.monitor.limits import DEFAULT, Limits
from clerestory.stages.train.monitor.record import Record


@dataclass(slots=True)
class _Case:
    """What the monitor knows about one detector.

    Attributes:
        detector: that looks.
        bad, good: symptoms, and healthy looks, in a row.
        active: whether it is named at present.
        first, last: the step it was named at, and the last one it was seen at; 0: never.
        seen: the last symptom's words.
    """

    detector: Detector
    bad: int = 0
    good: int = 0
    active: bool = False
    first: int = 0
    last: int = 0
    seen: str = ""


class Monitor:
    """Watches a run through its records.

    A fault is named when its symptom was there in several records in a row (how many depends on the fault), and only
    once in a run, however often it comes back; ``findings`` tells from when to when it was seen.

    Args:
        limits: thresholds.
    """

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self.effort = 0.0
        self._peak = 0.0
        self._step = 0
        self._cases = [_Case(detector(limits)) for detector in ALL]

    def step(self, record: Record) -> list[Finding]:
        """What one more step makes clear for the first time; empty for most steps."""
        self._step = max(self._step, record.step)
        if record.lr is not None:
            self._peak = max(self._peak, record.peak_lr or record.lr)
            self.effort += record.lr / self._peak if self._peak > 0 else 0.0
        new = []
        for case in self._cases:
            symptom = case.detector.look(record, self.effort, case.active)
            if symptom is not None and self._note(case, symptom, record.step):
                new.append(_finding(case, over=False))
        return new

    def findings(self) -> tuple[Finding, ...]:
        """Everything named so far, in the order it was named, and whether it has passed."""
        named = sorted((case for case in self._cases if case.first), key=lambda case: case.first)
        return tuple(_finding(case, over=not case.active) for case in named)

    @staticmethod
    def _note(case: _Case, symptom: Symptom, step: int) -> bool:
        """Count the symptom; whether it is now to be named for the first time."""
        patience = case.detector.patience
        if symptom.bad:
            case.bad, case.good = case.bad + 1, 0
            if case.bad >= patience:
                case.active, case.last, case.seen = True, step, symptom.seen
                if not case.first:
                    case.first = step
                    return True
        else:
            case.bad, case.good = 0, case.good + 1
            if case.good >= patience:
                case.active = False
        return False


def _finding(case: _Case, over: bool) -> Finding:
    detector = case.detector
    span = f"step {case.first}" if case.first == case.last else f"steps {case.first} to {case.last}"
    message = f"at {span}: {case.seen}" + ("; it has passed" if over else "")
    return Finding(detector.code, detector.severity, "warn" if over else "fail", detector.where, message, detector.fix)
