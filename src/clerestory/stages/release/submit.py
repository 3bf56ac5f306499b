"""Run the gate on a model and register the decision as a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clerestory.core.codec import Tags
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Decision, Event, Policy, Reason, Release
from clerestory.stages.release.decision import gate
from clerestory.stages.release.policies import load_policy
from clerestory.stages.release.promotion import LIVE, register
from clerestory.store import Store

UNDECIDED = "undecided"  # the event


def run_gate(
    store: Store,
    model: str,
    data: str,
    *,
    name: str,
    policy: Policy | None = None,
    who: str = "",
    why: str = "",
    notes: Tags | None = None,
    reuse_decision: bool = False,
    tasks: Sequence[str] = (),
    source: str = "",
) -> Release | Decision:
    """Run the gate on a model and register the decision; the same decision returns the existing release.

    A decision that evidence is missing for does not become a release: it is recorded in the journal and returned alone.
    The live release is returned, too, as long as its evidence and the policy are unchanged: it is not compared with
    itself.

    Args:
        store: holds the evidence, and receives the release.
        model: the model's digest.
        data: digest of the dataset of the evidence.
        name: the model name in which the release is numbered.
        policy: the rules; the default policy of Clerestory if None.
        who: the author; the login name if empty.
        why: the reason, for the journal.
        notes: further information.
        reuse_decision: return the earlier decision on the same evidence and policy, although another release may be
            live since; False compares with the release that is live *now*.
        tasks: references of the tasks with this data, for the suggested commands.
        source: the source of the dataset, for the suggested commands; used if the store has no name for it.

    Returns:
        The release; the decision if it is ``cannot_decide``.
    """
    decision = gate(model, store, policy or load_policy(None), data, name, tasks, source)
    if decision.verdict == "cannot_decide":
        store.journal.append(Event(UNDECIDED, model, who or current_user(), why, now(), Tags(name=name)))
        return decision
    live = store.alias(name, LIVE)
    for release in store.releases(name):
        reusable = reuse_decision or (live is not None and live.number == release.number)
        known = _same_outcomes(release.decision, decision) or (reusable and _same_basis(release.decision, decision))
        if release.model == model and known:
            return release
    return register(name, decision, store, who=who, why=why, notes=notes or Tags())


def _same_outcomes(first: Decision, second: Decision) -> bool:
    """Whether two decisions are the same by the same policy and evidence; suggested commands may differ."""

    def outcomes(decision: Decision) -> list[Reason]:
        return [replace(reason, command="", message="") for reason in decision.reasons]

    return first.policy_digest == second.policy_digest and outcomes(first) == outcomes(second)


def _same_basis(first: Decision, second: Decision) -> bool:
    """Whether two decisions rest on the same policy and the same evidence of the model, whichever release was live."""

    def basis(decision: Decision) -> list[tuple[str, str]]:
        return [(reason.rule, reason.evidence) for reason in decision.reasons]

    return first.policy_digest == second.policy_digest and basis(first) == basis(second)
