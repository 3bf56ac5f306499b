"""What may ship: policies, decisions, releases, and the events that people and the system cause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clerestory.core.codec import Tags

Verdict = Literal["ship", "refuse", "cannot_tell"]
Outcome = Literal["pass", "fail", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition of a policy: a bound, or a comparison with another release.

    Attributes:
        name: how the rule is called in reasons.
        metric: the measurement's name, such as ``recall@10``.
        where: its slice, exactly.
        at_least, at_most: the bound; exactly one of these two and ``no_worse_by``.
        judge: ``interval`` compares the end of the interval that is worse (the claim must hold with confidence),
            ``value`` compares the point.
        evidence: the kind of evidence it is read from.
        why: why the rule exists, for the person who reads the decision.
        no_worse_by: a relative rule: the drop, in the measurement's unit, that must not happen; above 0.
        compare_with: against what a relative rule compares: an alias of the same line, such as ``live``, or a release.
        alpha: how often each answer of a relative rule may be wrong.
        each_group: a relative rule asks the same of every value of this group, such as ``style``; empty for all rows.
    """

    name: str
    metric: str
    where: Tags = field(default_factory=Tags)
    at_least: float | None = None
    at_most: float | None = None
    judge: Literal["interval", "value"] = "interval"
    evidence: str = "evaluate"
    why: str = ""
    no_worse_by: float | None = None
    compare_with: str = ""
    alpha: float = 0.01
    each_group: str = ""

    @property
    def relative(self) -> bool:
        """Whether it compares with another release instead of asking for a bound."""
        return self.no_worse_by is not None


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules that a release must satisfy.

    Attributes:
        name: what people call it.
        rules: every one must pass.
        version: raised by whoever changes a rule.
    """

    name: str
    rules: tuple[Rule, ...]
    version: int = 1


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one rule passed, failed or could not be told.

    Attributes:
        rule: the rule's name.
        outcome: ``pass``, ``fail`` or ``cannot_tell``.
        message: one sentence with the numbers.
        evidence: id of the evidence it rests on, empty when there is none.
        command: the cheapest command that would change the outcome, empty when it passed.
        against: id of the evidence of the other model, for a relative rule; empty when there was none to compare with.
    """

    rule: str
    outcome: Outcome
    message: str
    evidence: str = ""
    command: str = ""
    against: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of a policy for one model.

    Attributes:
        verdict: ``ship``, ``refuse`` or ``cannot_tell``.
        policy: the policy's name and version.
        policy_digest: SHA-256 of its canonical JSON.
        model: the model's digest.
        reasons: one for each rule.
    """

    verdict: Verdict
    policy: str
    policy_digest: str
    model: str
    reasons: tuple[Reason, ...]

    @property
    def command(self) -> str:
        """The cheapest command that would change the answer, empty when it is ``ship``."""
        blocking = [r for r in self.reasons if r.outcome != "pass" and r.command]
        blocking.sort(key=lambda r: r.outcome != "cannot_tell")
        return blocking[0].command if blocking else ""


@dataclass(frozen=True, slots=True)
class Release:
    """A model that was put to the gate, numbered within its name.

    Attributes:
        name: the line of models it belongs to, such as ``icons``.
        number: 1, 2, …; ``icons@3`` names it.
        model: the model's digest.
        evidence: ids of the evidence the decision rests on.
        decision: what the gate said.
        parent: the number that was live when it was made, 0 when none was.
        who, why, when: by whom, for what reason, at what time (ISO 8601, UTC).
        notes: what else a reader should know, such as ``checkpoint=final``.
    """

    name: str
    number: int
    model: str
    evidence: tuple[str, ...]
    decision: Decision
    parent: int
    who: str
    why: str
    when: str
    notes: Tags = field(default_factory=Tags)

    @property
    def ref(self) -> str:
        """``name@number``."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A moving name, such as ``icons@live``.

    Attributes:
        name: the line of models.
        alias: ``live``, ``candidate``, ``previous``.
        number: the release it points at.
        generation: how many times it has moved; a move names the generation it expects.
    """

    name: str
    alias: str
    number: int
    generation: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        kind: ``data_added``, ``trained``, ``evaluated``, ``gated``, ``promoted``, ``rolled_back``, ….
        subject: what it happened to, such as ``icons@3``.
        who, why, when: by whom, for what reason, at what time (ISO 8601, UTC).
        details: what else is worth knowing, as short strings.
    """

    kind: str
    subject: str
    who: str
    why: str
    when: str
    details: Tags = field(default_factory=Tags)
