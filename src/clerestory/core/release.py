"""Policies, decisions and releases, and the events that people and the system cause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from clerestory.core.codec import OMIT_DEFAULT, Tags
from clerestory.core.errors import SettingError
from clerestory.core.settings import Range, check_settings

Verdict = Literal["ship", "refuse", "cannot_decide"]
VERDICT_TEXTS: dict[Verdict, str] = {"ship": "ship", "refuse": "do not ship", "cannot_decide": "cannot decide"}
Outcome = Literal["pass", "fail", "cannot_decide"]
Identity = Literal["stated", "verified"]
Cause = Literal[
    # pass
    "meets_bound",
    "not_worse",
    "no_reference",
    # fail
    "below_minimum",
    "above_maximum",
    "worse",
    # cannot_decide
    "not_measured",
    "unknown_measurement",
    "stale",
    "unanswered",
    "no_interval",
    "reference_not_measured",
    "not_comparable",
    "unknown_group",
    "too_few_clusters",
    "met_by_chance",
    "inconclusive",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition of a policy: a bound, or a comparison with another release.

    Attributes:
        name: of the rule, in reasons.
        metric: the measurement's name, such as ``recall@10``.
        where: its slice, exactly.
        at_least, at_most: the bound; exactly one of these two and ``no_worse_by``.
        criterion: ``interval_bound`` requires that the lower bound (``at_least``) or upper bound (``at_most``) of the
            interval meets the bound, so the claim holds with confidence; ``value`` requires it of the value only.
        evidence: the kind of evidence that has the measurement.
        why: the purpose of the rule, for the person who reads the decision.
        no_worse_by: of a relative rule: the drop, in the measurement's unit, that must not happen; above 0.
        compare_with: of a relative rule: an alias of the same model name, such as ``live``, or a release.
        alpha: of a relative rule: the error rate of each answer.
        each_group: of a relative rule: it must hold for each value of this group, such as ``style``; empty for all
            samples together.
    """

    name: str
    metric: str
    where: Tags = field(default_factory=Tags)
    at_least: float | None = None
    at_most: float | None = None
    criterion: Literal["interval_bound", "value"] = "interval_bound"
    evidence: str = "evaluate"
    why: str = ""
    no_worse_by: float | None = None
    compare_with: str = ""
    alpha: float = 0.01
    each_group: str = ""

    @property
    def is_relative(self) -> bool:
        """Whether it compares with another release instead of requiring a bound."""
        return self.no_worse_by is not None


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """Who must agree before a release becomes live: the section ``[approval]`` of a policy.

    Attributes:
        approvals: how many people must approve; 0 for none.
        promoter_must_differ_from_author: whether the person who submitted the model to the gate may not promote it.
        approver_must_differ_from_author: whether that person, and who requested the approval, may not approve it.
        approval_expires_days: how long an approval holds; 0 for ever.
        identity: ``verified`` counts only approvals signed with the key that is registered for that person; ``stated``
            counts every name.
        rollback_needs_approval: whether a rollback is refused, too, unless the release to go back to has its approvals;
            without it a rollback is possible at once and recorded as one without approval.

    Raises:
        SettingError: a number is out of its range, or the section requires nothing.
    """

    approvals: Annotated[int, Range(0, 20)] = 0
    promoter_must_differ_from_author: bool = True
    approver_must_differ_from_author: bool = True
    approval_expires_days: Annotated[int, Range(0, 3650)] = 0
    identity: Identity = "stated"
    rollback_needs_approval: bool = False

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.approvals and not self.promoter_must_differ_from_author:
            raise SettingError("approvals", "is 0, so the section requires nothing", "set approvals = 2, or remove it")

    def stricter(self, other: ApprovalPolicy | None) -> ApprovalPolicy:
        """What satisfies both: of each setting the one that demands more."""
        if other is None:
            return self
        expiries = [days for days in (self.approval_expires_days, other.approval_expires_days) if days]
        return ApprovalPolicy(
            approvals=max(self.approvals, other.approvals),
            promoter_must_differ_from_author=self.promoter_must_differ_from_author
            or other.promoter_must_differ_from_author,
            approver_must_differ_from_author=self.approver_must_differ_from_author
            or other.approver_must_differ_from_author,
            approval_expires_days=min(expiries, default=0),
            identity="verified" if "verified" in (self.identity, other.identity) else "stated",
            rollback_needs_approval=self.rollback_needs_approval or other.rollback_needs_approval,
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that a model must satisfy before it may ship.

    Attributes:
        name: for people.
        rules: all of them must pass.
        version: raised with every change of a rule.
        approval: who must agree before it becomes live; None if nobody must. Not part of the digest if None.
    """

    name: str
    rules: tuple[Rule, ...]
    version: int = 1
    approval: ApprovalPolicy | None = field(default=None, metadata=OMIT_DEFAULT)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one rule passed, failed or could not be decided.

    Attributes:
        rule: the rule's name.
        outcome: ``pass``, ``fail`` or ``cannot_decide``.
        cause: why the rule has this outcome, for programs; the message explains it to people.
        message: one sentence with the numbers; nothing parses it.
        evidence: id of the evidence of the model; empty without any.
        reference_evidence: of a relative rule, id of the evidence of the other model; empty without any.
        command: the cheapest command that could change the outcome; empty when it passed.
        value: the measured value; of a relative rule the difference, candidate minus reference.
        low, high: bounds of its interval; None without one.
        bound: the required minimum or maximum; of a relative rule the margin.
        unit: of these numbers.
        n: how many samples were measured.
        additional_rows: how many more samples an inconclusive comparison, or a value whose interval includes the bound,
            needs; None if unknown.
        changed: of stale evidence, the digests that changed: ``data``, ``code``, ``environment``.
        groups: the values of the rule's group that decided the outcome.
    """

    rule: str
    outcome: Outcome
    cause: Cause
    message: str
    evidence: str = ""
    reference_evidence: str = ""
    command: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    unit: str = ""
    n: int | None = None
    additional_rows: int | None = None
    changed: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of applying a policy to one model.

    Attributes:
        verdict: ``ship``, ``refuse`` or ``cannot_decide``.
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
        """The cheapest command that could change the verdict; empty when it is ``ship``."""
        blocking = [reason for reason in self.reasons if reason.outcome != "pass" and reason.command]
        blocking.sort(key=lambda reason: reason.outcome != "cannot_decide")
        return blocking[0].command if blocking else ""


@dataclass(frozen=True, slots=True)
class Release:
    """A model with the decision of the gate, numbered within its model name.

    Attributes:
        name: the model name (a registered model, in MLflow's terms), such as ``icons``.
        number: 1, 2, …; the release is called ``icons@3``.
        model: the model's digest.
        evidence: ids of the evidence that the decision rests on.
        decision: the decision of the gate.
        parent: the number of the release that was live when this one was created; 0 if there was none.
        who, why, when: the author, the reason and the time (ISO 8601, UTC).
        notes: further information, such as ``checkpoint=final``.
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
    """A name that moves from release to release, such as ``icons@live``.

    Attributes:
        name: the model name.
        alias: ``live``, ``candidate``, ``previous``.
        number: the release it points at.
        generation: how many times it has moved; a move states the generation it expects.
    """

    name: str
    alias: str
    number: int
    generation: int


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the journal: an action of a person or of the system.

    Attributes:
        kind: ``data_added``, ``gated``, ``promoted``, ``rolled_back``, ….
        subject: the object of the action, such as ``icons@3``.
        who, why, when: the author, the reason and the time (ISO 8601, UTC).
        details: further information, as short strings.
    """

    kind: str
    subject: str
    who: str
    why: str
    when: str
    details: Tags = field(default_factory=Tags)
