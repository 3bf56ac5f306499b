"""The gate: a policy and the evidence there is for one model make a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clerestory.core.digest import canonical
from clerestory.core.errors import IntegrityError, closest
from clerestory.core.evidence import Evidence, Measurement, Subject
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.release import Decision, Policy, Reason, Rule
from clerestory.stages.release.next_command import Commands, commands_for
from clerestory.stages.release.policies import check_policy
from clerestory.stages.release.relative import Side, judge_relative, nothing_to_compare
from clerestory.stages.release.rules import judge, value_in_words, verdict
from clerestory.stats.rows import read_rows
from clerestory.store import Store

_STALE = {
    "data": "on other data",
    "code": "by other code",
    "environment": "with other library versions or on another kind of machine",
}
# What evidence says of itself where a model, mostly one behind an endpoint, gave no answer.
UNANSWERED_CODE = "CLR-E008"
_VERB = {"evaluate": "evaluated", "train": "trained"}


def gate(model: str, store: Store, policy: Policy, data: str, line: str = "", tasks: Sequence[str] = ()) -> Decision:
    """Decide whether a model may ship.

    Evidence counts only where it was made for this model, on this data, by the code and in the environment of today,
    and where nothing that the rule's task asked went unanswered.
    The policy is kept in the store as a blob, so that the decision can be derived again.

    Args:
        model: its digest.
        store: where the evidence is.
        policy: the rules.
        data: digest of the data set the evidence must have been made on.
        line: the line of models whose ``live`` relative rules compare with; the policy's name when empty.
        tasks: what names the tasks whose data this is, for the commands that are offered.

    Returns:
        ``ship`` when every rule passes, ``refuse`` when one fails, else ``cannot_tell``.

    Raises:
        NotFound: the store has no such model.
        IntegrityError: a piece of evidence is damaged; names the file.
    """
    check_policy(policy)
    store.model_files(model)
    case = _Case(model, data, line or policy.name, store, tuple(tasks))
    reasons = tuple(_reason(rule, case) for rule in policy.rules)
    return Decision(
        verdict=verdict(reason.outcome for reason in reasons),
        policy=f"{policy.name} version {policy.version}",
        policy_digest=store.blobs.put(canonical(policy)),
        model=model,
        reasons=reasons,
    )


def outdated(evidence: Evidence, data: str = "") -> tuple[str, ...]:
    """Which digests of the evidence are not those of today; ``data`` is compared where it is given."""
    today = Subject(
        model=evidence.subject.model,
        data=data or evidence.subject.data,
        code=stage_code(evidence.kind),
        config=evidence.subject.config,
        environment=environment_digest(),
    )
    return evidence.subject.differs(today)


def stale_in_words(changed: tuple[str, ...]) -> str:
    """``on other data and by other code``."""
    return " and ".join(_STALE[name] for name in changed)


@dataclass(frozen=True)
class _Case:
    """One model before the gate."""

    model: str
    data: str
    line: str
    store: Store
    tasks: tuple[str, ...] = ()

    def held(self, rule: Rule, model: str = "") -> list[Evidence]:
        """The evidence of the rule's kind, newest first."""
        return self.store.find_evidence(rule.evidence, model=model or self.model)

    def fresh(self, rule: Rule, model: str = "") -> tuple[list[Evidence], list[Evidence]]:
        """The evidence of today: that in which the rule's task was answered, and that in which it was not."""
        today = [evidence for evidence in self.held(rule, model) if not outdated(evidence, self.data)]
        lacking = [evidence for evidence in today if _lacks_answers(evidence, rule.where.get("task", ""), self.store)]
        return [evidence for evidence in today if evidence not in lacking], lacking


def _lacks_answers(evidence: Evidence, task: str, store: Store) -> bool:
    """Whether questions of a task went unanswered, or of any where no task is named."""
    told = tuple(finding.message for finding in evidence.findings if finding.code == UNANSWERED_CODE)
    if not (told and task and evidence.rows):
        return bool(told)
    rows = read_rows(store.blobs.get(evidence.rows))
    reasons = {str(why) for why in rows["unscored"][rows["task"] == task].tolist()} - {""}
    return any(message.endswith(why) for message in told for why in reasons)


def _reason(rule: Rule, case: _Case) -> Reason:
    """The reason of one rule, from the newest evidence of today that has its measurement."""
    commands = commands_for(rule, case.model, case.data, case.store, case.tasks)
    held = case.held(rule)
    fresh, lacking = case.fresh(rule)
    for evidence in fresh:
        measured = evidence.find(rule.metric, rule.where)
        if measured is not None:
            return _judged(rule, case, evidence, measured, commands)
    if lacking:
        message = (
            f"questions went unanswered when it was evaluated ({lacking[0].made[:10]}, {UNANSWERED_CODE}), so that "
            "does not count: what was answered is kept, and only the rest is asked again."
        )
        return Reason(rule.name, "cannot_tell", message, lacking[0].id, commands.measure)
    if fresh:
        return _unmeasured(rule, fresh[0])
    if held:
        return _stale(rule, held, case.data, commands.measure)
    about = f"{rule.metric} ({rule.where})" if rule.where else rule.metric
    message = f"{about} is not known, because this model was never {_VERB[rule.evidence]} here (0 pieces of evidence)."
    return Reason(rule.name, "cannot_tell", message, "", commands.measure)


def _judged(rule: Rule, case: _Case, evidence: Evidence, measured: Measurement, commands: Commands) -> Reason:
    if not rule.relative:
        reason = judge(rule, measured, evidence.id)
        return reason if reason.outcome == "pass" else replace(reason, command=commands.improve(measured))
    other = _other(rule, case)
    if other is None:
        return nothing_to_compare(rule, evidence.id, case.line)
    name, model = other
    for theirs in case.fresh(rule, model)[0]:
        compared = theirs.find(rule.metric, rule.where)
        if compared is not None:
            ours = _side(commands.model, evidence, measured, case.store)
            reason = judge_relative(rule, ours, _side(name, theirs, compared, case.store))
            if reason.outcome == "pass":
                return reason
            command = commands.improve(measured) if reason.outcome == "fail" else commands.compare(name)
            return replace(reason, command=command)
    message = (
        f"{name} has no {rule.metric} of today to compare with: it was never measured, or what was is stale or lacks "
        "answers."
    )
    return Reason(rule.name, "cannot_tell", message, evidence.id, commands.examine(name))


def _other(rule: Rule, case: _Case) -> tuple[str, str] | None:
    """Name and digest of the model to compare with; None while there is none but the model itself.

    Raises:
        NotFound: the rule names a release that does not exist.
    """
    if "@" in rule.compare_with:
        found = case.store.resolve(rule.compare_with)
        name, model = rule.compare_with, found.digest
    else:
        alias = case.store.alias(case.line, rule.compare_with)
        if alias is None:
            return None
        release = case.store.release(case.line, alias.number)
        name, model = release.ref, release.model
    return None if model == case.model else (name, model)


def _side(name: str, evidence: Evidence, measured: Measurement, store: Store) -> Side:
    if not evidence.rows:
        raise IntegrityError(f"the evidence {evidence.id[:12]} keeps no rows", "evaluate the model again")
    return Side(name, evidence.id, measured, read_rows(store.blobs.get(evidence.rows)), evidence.facts)


def _stale(rule: Rule, held: list[Evidence], data: str, command: str) -> Reason:
    evidence = min(held, key=lambda each: len(outdated(each, data)))
    why = stale_in_words(outdated(evidence, data))
    measured = evidence.find(rule.metric, rule.where)
    then = f"{rule.metric} was {value_in_words(measured.value, measured.unit)} then" if measured else "nothing is known"
    made = f"the newest evidence that comes near, of {evidence.made[:10]}, was made {why}"
    return Reason(rule.name, "cannot_tell", f"{then}, but {made}, so it no longer counts.", evidence.id, command)


def _unmeasured(rule: Rule, evidence: Evidence) -> Reason:
    wanted = f"{rule.metric}[{rule.where}]"
    keys = [measured.key for measured in evidence.measurements]
    near = closest(wanted, keys, most=1)
    hint = f"; the closest it has is {near[0]}" if near else ""
    message = f"none of the {len(keys)} measurements of {evidence.made[:10]} is {wanted}{hint}."
    return Reason(rule.name, "cannot_tell", message, evidence.id)
