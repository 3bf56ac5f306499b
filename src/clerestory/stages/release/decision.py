"""The gate: from a policy and the evidence on one model to a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clerestory.core.digest import canonical
from clerestory.core.errors import IntegrityError
from clerestory.core.evidence import Evidence, Finding, Measurement, Subject
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.release import Decision, Policy, Reason, Rule
from clerestory.core.rows import RETRYABLE, chance_fact
from clerestory.core.stage import stage
from clerestory.stages.release.missing import missing_measurement
from clerestory.stages.release.next_command import Commands, commands_for, suites_of
from clerestory.stages.release.policies import check_policy
from clerestory.stages.release.relative import ComparedModel, check_relative, without_reference
from clerestory.stages.release.rules import (
    check_bound,
    check_chance,
    describe_measurement,
    format_value,
    overall_verdict,
)
from clerestory.stats.rows import read_rows
from clerestory.store import Store

# The causes that more evidence removes.
_MISSING = frozenset({"not_measured", "stale", "unanswered", "unknown_measurement", "reference_not_measured"})
_CHANGES = {
    "data": "on other data",
    "code": "by a different version of the code",
    "environment": "with other library versions or on another kind of machine",
}


def gate(
    model: str,
    store: Store,
    policy: Policy,
    data: str,
    name: str = "",
    tasks: Sequence[str] = (),
    source: str = "",
) -> Decision:
    """Decide whether a model may ship.

    Evidence counts only if it was produced for this model, on this data, by the current code in the current
    environment, and if no sample of the rule's task is unanswered. The policy is stored as a blob, so the decision can
    be derived again.

    Args:
        model: its digest.
        store: holds the evidence.
        policy: the rules.
        data: digest of the dataset of the evidence.
        name: the model name whose ``live`` release is the reference of relative rules; the policy's name if empty.
        tasks: references of the tasks with this data, for the suggested commands.
        source: the source of the dataset, for the suggested commands; used if the store has no name for it.

    Returns:
        ``ship`` if every rule passes, ``refuse`` if one fails, else ``cannot_decide``.

    Raises:
        NotFound: the store has no such model.
        IntegrityError: a piece of evidence is damaged; names the file.
    """
    check_policy(policy)
    store.model_files(model)
    candidate = _Candidate(model, data, name or policy.name, store, tuple(tasks), source)
    reasons = _join_missing([_reason(rule, candidate) for rule in policy.rules], policy.rules, candidate)
    return Decision(
        verdict=overall_verdict(reason.outcome for reason in reasons),
        policy=f"{policy.name} version {policy.version}",
        policy_digest=store.blobs.put(canonical(policy)),
        model=model,
        reasons=reasons,
    )


def _join_missing(reasons: Sequence[Reason], rules: Sequence[Rule], candidate: _Candidate) -> tuple[Reason, ...]:
    """The reasons, where those that lack evidence of the same model name one command that produces all of it."""
    missing: dict[tuple[str, str], list[Rule]] = {}
    keys: list[tuple[str, str] | None] = []
    for reason, rule in zip(reasons, rules, strict=True):
        key = None
        if reason.cause in _MISSING and reason.command:
            reference = _reference(rule, candidate) if reason.cause == "reference_not_measured" else None
            key = (reference[0] if reference else "", stage(rule.evidence).kind)
            missing.setdefault(key, []).append(rule)
        keys.append(key)
    joined = []
    for reason, rule, key in zip(reasons, rules, keys, strict=True):
        if key is not None:
            command = candidate.commands(rule).measure(suites_of(missing[key], candidate.tasks), key[0])
            reason = replace(reason, command=command)
        joined.append(reason)
    return tuple(joined)


def changed_digests(evidence: Evidence, data: str = "") -> tuple[str, ...]:
    """The digests of the evidence that differ from the current ones; ``data`` is compared if given.

    Evidence that depends on no data, such as that of licences, holds whatever the data.
    """
    current = Subject(
        model=evidence.subject.model,
        data=evidence.subject.data and (data or evidence.subject.data),
        code=stage_code(evidence.kind),
        config=evidence.subject.config,
        environment=environment_digest(),
    )
    return evidence.subject.differing_fields(current)


def describe_changes(changed: tuple[str, ...]) -> str:
    """``on other data and by a different version of the code``."""
    return " and ".join(_CHANGES[name] for name in changed)


@dataclass(frozen=True)
class _Candidate:
    """The model under decision, with access to its evidence."""

    model: str
    data: str
    name: str
    store: Store
    tasks: tuple[str, ...] = ()
    source: str = ""

    def commands(self, rule: Rule) -> Commands:
        """The commands for a rule that the model did not pass."""
        return commands_for(rule, self.model, self.data, self.store, self.tasks, self.source)

    def stored(self, rule: Rule, model: str = "") -> list[Evidence]:
        """The evidence of the rule's kind, newest first."""
        return self.store.find_evidence(rule.evidence, model=model or self.model)

    def current(self, rule: Rule, model: str = "") -> tuple[list[Evidence], list[Evidence]]:
        """The current evidence, complete and with unanswered samples of the rule's task."""
        current = [evidence for evidence in self.stored(rule, model) if not changed_digests(evidence, self.data)]
        incomplete = [evidence for evidence in current if _has_unanswered(evidence, rule.where.get("task", ""))]
        return [evidence for evidence in current if evidence not in incomplete], incomplete


def _has_unanswered(evidence: Evidence, task: str) -> bool:
    """Whether samples of a task are unanswered; of any task if none is named."""
    return any(finding.reason in RETRYABLE and _concerns(finding, task) for finding in evidence.findings)


def _concerns(finding: Finding, task: str) -> bool:
    """Whether a finding is about a task; a finding without a task is about all tasks."""
    finding_task = finding.details.get("task", "")
    return not task or not finding_task or finding_task == task


def _reason(rule: Rule, candidate: _Candidate) -> Reason:
    """The reason of one rule, from the newest current evidence that has its measurement."""
    commands = candidate.commands(rule)
    current, incomplete = candidate.current(rule)
    for evidence in current:
        measured = evidence.find(rule.metric, rule.where)
        if measured is not None:
            return _check(rule, candidate, evidence, measured, commands)
    if incomplete:
        return _unanswered(rule, incomplete[0], commands)
    if current:
        return _unknown_measurement(rule, current[0], candidate)
    stored = candidate.stored(rule)
    if stored:
        return _stale(rule, stored, candidate.data, commands)
    message = (
        f"{describe_measurement(rule)} is unknown: this model was never {_verb_past(rule)} here (0 pieces of evidence)."
    )
    return Reason(rule.name, "cannot_decide", "not_measured", message, command=commands.measure())


def _check(rule: Rule, candidate: _Candidate, evidence: Evidence, measured: Measurement, commands: Commands) -> Reason:
    if not rule.is_relative:
        reason = check_bound(rule, measured, evidence.id)
        chance = chance_fact(rule.metric, rule.where.get("task", ""), rule.where.get("split", ""))
        if chance in evidence.facts:
            reason = check_chance(rule, reason, evidence.facts.number(chance))
        if reason.cause == "met_by_chance":
            return reason
        return reason if reason.outcome == "pass" else replace(reason, command=commands.improve(reason))
    reference = _reference(rule, candidate)
    if reference is None:
        return without_reference(rule, evidence.id, candidate.name)
    name, model = reference
    for other in candidate.current(rule, model)[0]:
        measured_other = other.find(rule.metric, rule.where)
        if measured_other is not None:
            compared = _compared(commands.model, evidence, measured, candidate.store)
            reason = check_relative(rule, compared, _compared(name, other, measured_other, candidate.store))
            if reason.outcome == "pass":
                return reason
            improved = commands.improve(reason) if reason.outcome == "fail" else ""
            return replace(reason, command=improved or commands.compare(name))
    message = (
        f"{name} has no current {rule.metric} to compare with: it was never measured, or its evidence is stale or "
        "lacks answers."
    )
    return Reason(
        rule.name,
        "cannot_decide",
        "reference_not_measured",
        message,
        evidence.id,
        command=commands.measure(model=name),
    )


def _reference(rule: Rule, candidate: _Candidate) -> tuple[str, str] | None:
    """Name and digest of the model to compare with; None if there is none, or if it is the candidate.

    Raises:
        NotFound: the rule names a release that does not exist.
    """
    if "@" in rule.compare_with:
        name, model = rule.compare_with, candidate.store.resolve(rule.compare_with).digest
    else:
        alias = candidate.store.alias(candidate.name, rule.compare_with)
        if alias is None:
            return None
        release = candidate.store.release(candidate.name, alias.number)
        name, model = release.ref, release.model
    return None if model == candidate.model else (name, model)


def _compared(name: str, evidence: Evidence, measured: Measurement, store: Store) -> ComparedModel:
    if not evidence.rows:
        raise IntegrityError(f"the evidence {evidence.id[:12]} has no rows", "evaluate the model again")
    return ComparedModel(name, evidence.id, measured, read_rows(store.blobs.get(evidence.rows)), evidence.facts)


def _unanswered(rule: Rule, evidence: Evidence, commands: Commands) -> Reason:
    message = (
        f"samples of this rule's task were unanswered when the model was {_verb_past(rule)} ({evidence.created[:10]}), "
        "so that evidence does not count; answers are cached, and a further run requests only the unanswered samples."
    )
    return Reason(rule.name, "cannot_decide", "unanswered", message, evidence.id, command=commands.measure())


def _stale(rule: Rule, stored: list[Evidence], data: str, commands: Commands) -> Reason:
    evidence = min(stored, key=lambda each: len(changed_digests(each, data)))
    changed = changed_digests(evidence, data)
    measured = evidence.find(rule.metric, rule.where)
    value = f"was {format_value(measured.value, measured.unit)}" if measured else "is unknown"
    message = (
        f"{rule.metric} {value}, but the closest evidence ({evidence.created[:10]}) was produced "
        f"{describe_changes(changed)}, so it no longer counts."
    )
    return Reason(
        rule.name,
        "cannot_decide",
        "stale",
        message,
        evidence.id,
        command=commands.measure(),
        value=measured.value if measured else None,
        unit=measured.unit if measured else "",
        n=measured.n if measured else None,
        changed=changed,
    )


def _unknown_measurement(rule: Rule, evidence: Evidence, candidate: _Candidate) -> Reason:
    """The reason of a rule whose measurement the evidence lacks, with the measurements that are closest to it."""
    problem, completable = missing_measurement(rule, evidence.measurements)
    suites = evidence.facts.string_items("selected_suites")
    # A complete measurement would not have it either, so only an evaluation of some suites is worth completing.
    needed = suites_of([rule], candidate.tasks)
    was_run = bool(needed) and set(needed) <= set(suites)
    command = candidate.commands(rule).measure() if suites and completable and not was_run else ""
    message = f"{problem}; {evidence.created[:10]} ran {', '.join(suites)} only." if command else f"{problem}."
    return Reason(rule.name, "cannot_decide", "unknown_measurement", message, evidence.id, command=command)


def _verb_past(rule: Rule) -> str:
    return stage(rule.evidence).verb_past
