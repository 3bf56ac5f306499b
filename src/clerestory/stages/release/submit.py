"""The gate and the register in one: what people call putting a model to the gate."""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.codec import Tags
from clerestory.core.release import Decision, Policy, Release
from clerestory.stages.release.decision import gate
from clerestory.stages.release.policies import load_policy
from clerestory.stages.release.promotion import LIVE, register
from clerestory.store import Store


def put_to_gate(
    store: Store,
    model: str,
    data: str,
    *,
    name: str,
    policy: Policy | None = None,
    who: str = "",
    why: str = "",
    notes: Tags | None = None,
    again: bool = True,
    tasks: Sequence[str] = (),
) -> Release:
    """Put a model to the gate and number the outcome; the same outcome again gives the same release back.

    So does the release that is live while its evidence and the policy are the same: it is not compared with itself.

    Args:
        store: where the evidence is, and the release goes.
        model: the model's digest.
        data: the digest of the data set that the evidence must have been measured on.
        name: the line of models the release is numbered in.
        policy: the rules; the policy that comes with Clerestory when None.
        who: the person; the login name when empty.
        why: the reason that goes into the journal.
        notes: what else a reader should know.
        again: compare with what is live *now*; False keeps the answer that the same evidence and policy got before.
        tasks: what names the tasks whose data this is, for the commands that are offered.
    """
    decision = gate(model, store, policy or load_policy(None), data, name, tasks)
    live = store.alias(name, LIVE)
    for release in store.releases(name):
        known = release.decision == decision or (
            (not again or (live is not None and live.number == release.number))
            and _same_question(release.decision, decision)
        )
        if release.model == model and known:
            return release
    return register(name, decision, store, who=who, why=why, notes=notes or Tags())


def _same_question(one: Decision, other: Decision) -> bool:
    """Whether two decisions rest on the same policy and the same evidence of the model, whatever was live."""

    def asked(decision: Decision) -> list[tuple[str, str]]:
        return [(reason.rule, reason.evidence) for reason in decision.reasons]

    return one.policy_digest == other.policy_digest and asked(one) == asked(other)
