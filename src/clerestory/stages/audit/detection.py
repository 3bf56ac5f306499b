"""What a detector returns: the samples it found, by kind of finding."""

from __future__ import annotations

from dataclasses import dataclass, field

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Severity, State
from clerestory.core.findings import FindingCode
from clerestory.core.units import plural

MAX_NAMED = 3  # samples in the place of a finding


@dataclass(frozen=True, slots=True)
class Detection:
    """Everything of one kind that a detector found in a dataset.

    Attributes:
        code: the kind of finding.
        message: one sentence with the numbers; never a personal value.
        samples: ids of the samples concerned, each once, in the order of the dataset.
        checked: the number of samples that were checked.
        groups: ids of samples that belong together, such as copies of one image; empty if samples stand alone.
        notes: one fact about a sample by its id, such as ``caption 2: e-mail address``; never a personal value.
        reason: the cause, as the value of an enum, if the code distinguishes causes.
        state, severity, fix: in place of the code's.
    """

    code: FindingCode
    message: str
    samples: tuple[str, ...]
    checked: int
    groups: tuple[tuple[str, ...], ...] = ()
    notes: Tags = field(default_factory=Tags)
    reason: str = ""
    state: State | None = None
    severity: Severity | None = None
    fix: str | None = None

    def finding(self) -> Finding:
        """The finding of the evidence: it names a few samples and counts all of them."""
        named = ", ".join(self.samples[:MAX_NAMED])
        more = len(self.samples) - MAX_NAMED
        where = f"{named} and {plural(more, 'other')}" if more > 0 else named
        return self.code.finding(
            where or "the dataset",
            self.message,
            fix=self.fix,
            state=self.state,
            severity=self.severity,
            reason=self.reason,
            count=len(self.samples),
            checked=self.checked,
        )
