"""The gate: a policy and the evidence there is for one model make a decision."""

from __future__ import annotations

from dataclasses import replace

from clerestory.core.digest import canonical
from clerestory.core.errors import closest
from clerestory.core.measure import Evidence, Subject
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.release import Decision, Policy, Reason, Rule
from clerestory.stages.release.advice import commands_for
from clerestory.stages.release.judge import judge, value_in_words, verdict
from clerestory.stages.release.policies import check_policy
from clerestory.store import Store

_STALE = {
    "data": "on other data",
    "code": "by other code",
    "environment": "with other library versions or on another kind of machine",
}
_VERB = {"evaluate": "evaluated", "train": "trained"}


def gate(model: str, store: Store, policy: Policy, data: str) -> Decision:
    """Decide whether a model may ship.

    Evidence counts only where it was made for this model, on this data, by the code and in the environment of today.
    The policy is kept in the store as a blob, so that the decision can be derived again.

    Args:
        model: its digest.
        store: where the evidence is.
        policy: the rules.
        data: digest of the data set the evidence must have been made on.

    Returns:
        ``ship`` when every rule passes, ``refuse`` when one fails, else ``cannot_tell``.

    Raises:
        NotFound: the store has no such model.
        IntegrityError: a piece of evidence is damaged; names the file.
    """
    check_policy(policy)
    store.model_files(model)
    held = {
        kind: store.find_evidence(kind, model=model) for kind in dict.fromkeys(rule.evidence for rule in policy.rules)
    }
    reasons = tuple(_reason(rule, model, data, held[rule.evidence], store) for rule in policy.rules)
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


def _reason(rule: Rule, model: str, data: str, held: list[Evidence], store: Store) -> Reason:
    """The reason of one rule, from the newest evidence of today that has its measurement."""
    commands = commands_for(rule, model, data, store)
    fresh = [evidence for evidence in held if not outdated(evidence, data)]
    for evidence in fresh:
        measured = evidence.find(rule.metric, rule.where)
        if measured is not None:
            reason = judge(rule, measured, evidence.id)
            return reason if reason.outcome == "pass" else replace(reason, command=commands.improve(measured))
    if fresh:
        return _unmeasured(rule, fresh[0])
    if held:
        return _stale(rule, held, data, commands.measure)
    about = f"{rule.metric} ({rule.where})" if rule.where else rule.metric
    message = f"{about} is not known, because this model was never {_VERB[rule.evidence]} here (0 pieces of evidence)."
    return Reason(rule.name, "cannot_tell", message, "", commands.measure)


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
