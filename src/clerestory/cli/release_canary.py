"""``clerestory release canary``: a release answers a share of the requests, watched by guardrails."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from clerestory.apps.references import release_reference
from clerestory.cli.output import PLAIN, Common
from clerestory.cli.release import prepare_golden
from clerestory.core.codec import encode
from clerestory.core.errors import InputError
from clerestory.core.units import duration
from clerestory.stages.release.promotion import change_canary, promote_canary, start_canary
from clerestory.store import Store, open_store
from clerestory.store.operations.rollouts import (
    Guardrail,
    GuardrailEvidence,
    Rollout,
    RolloutPlan,
    RolloutState,
    ShadowCounts,
    judge_step,
    list_rollouts,
    read_evidence,
    read_shadow,
)

UNITS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
BAD = {
    Guardrail.ERRORS: "status 500 or above",
    Guardrail.LATENCY: "later than the limit",
    Guardrail.EMBEDDINGS: "not finite, or of length zero",
    Guardrail.FEEDBACK: "thumbs down",
    Guardrail.QUALITY: "marked as wrong",
}


def start_(
    ref: str,
    /,
    *,
    why: str,
    weight: str = "",
    steps: str = "",
    step_every: str = "30min",
    min_requests: int = 100,
    max_latency: float = 2.0,
    auto_promote: Annotated[bool, Parameter(negative=())] = False,
    shadow: Annotated[bool, Parameter(negative=())] = False,
    keep_inputs: Annotated[bool, Parameter(negative=())] = False,
    new_space: Annotated[bool, Parameter(negative=())] = False,
    who: str = "",
    common: Common = PLAIN,
) -> None:
    """Begin a rollout: the candidate answers a share of the requests, and a guardrail that breaks takes it back.

    Args:
        ref: A release, such as icons@4; it needs all that a promotion needs.
        why: The reason, for the journal.
        weight: A single step, such as 5%.
        steps: The shares one after the other, such as 5%,25% (the default); a last one of 100% means --auto-promote.
        step_every: How long a step lasts at least, such as 30min or 2h.
        min_requests: How many requests of the candidate a step needs; without them nothing proceeds.
        max_latency: An answer later than this many seconds is late.
        auto_promote: The servers promote the candidate after the last step; without it a person does.
        shadow: The candidate computes along in spare capacity, and nobody receives its answers.
        keep_inputs: A shadow rollout keeps the texts whose answers differ.
        new_space: Search indexes that clients have made of the embeddings are made again.
        who: The person who decides (default: $CLERESTORY_WHO or the login name).
    """
    if weight and steps:
        raise InputError("--weight is a single step, and --steps are several", "give one of them")
    shares = [_share(each) for each in (weight or steps or "5%,25%").split(",")] if not shadow else []
    if shadow and (weight or steps):
        raise InputError("a shadow rollout answers no request, so it has no share", "leave out --weight and --steps")
    auto_promote = auto_promote or (bool(shares) and shares[-1] == 1.0)
    plan = RolloutPlan(
        steps=tuple(each for each in shares if each < 1),
        step_every_s=_seconds(step_every),
        min_requests=min_requests,
        auto_promote=auto_promote,
        shadow=shadow,
        keep_inputs=keep_inputs,
        new_space=new_space,
        max_latency_s=max_latency,
    )
    store = open_store(common.home)
    ref = release_reference(store, ref)
    if not new_space and not shadow:
        prepare_golden(store, ref)
    rollout = start_canary(ref, store, plan, who, why)
    share = "computes along and answers nobody" if shadow else f"answers {rollout.weight:.0%} of the requests"
    common.out.result(_data(store, rollout), f"✓ {rollout.ref} {share} beside {rollout.stable_ref}")
    common.out.next(f"clerestory release canary status {rollout.name}")


def status_(name: str = "icons", /, *, common: Common = PLAIN) -> int:
    """Show the newest rollout of a model name: exit code 0 while it runs or was promoted, 1 if it was taken back.

    Args:
        name: The model name.
    """
    store = open_store(common.home)
    store.database.ensure_operations()
    with store.database.reading() as connection:
        found = list_rollouts(connection, name, limit=1)
        evidence = read_evidence(connection, found[0].id) if found else {}
        shadow = read_shadow(connection, found[0].id) if found else ShadowCounts()
    if not found:
        common.out.result({"rollout": None}, f"there was no rollout of {name} yet")
        return 0
    rollout = found[0]
    if rollout.plan.shadow:
        common.out.result({**_data(store, rollout), "shadow": shadow}, *_lines(rollout, evidence), *_shadow(shadow))
        return int(not rollout.is_active)
    table = Table("guardrail", "bad means", rollout.stable_ref, rollout.ref, "e-value", "stops at", box=None)
    for each in evidence.values():
        table.add_row(*_evidence_row(each, rollout))
    common.out.result(_data(store, rollout), *_lines(rollout, evidence), table)
    return int(rollout.state in (RolloutState.ROLLED_BACK, RolloutState.ABORTED))


def pause_(name: str = "icons", /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Keep the share of the candidate, and take no further step; the guardrails go on.

    Args:
        name: The model name.
        why: The reason, for the journal.
        who: The person who decides (default: $CLERESTORY_WHO or the login name).
    """
    rollout = change_canary(name, open_store(common.home), "pause", who, why)
    common.out.result(rollout, f"✓ the rollout of {rollout.ref} is paused at {rollout.weight:.0%}")


def resume_(name: str = "icons", /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Go on with the steps; the current one begins again.

    Args:
        name: The model name.
        why: The reason, for the journal.
        who: The person who decides (default: $CLERESTORY_WHO or the login name).
    """
    rollout = change_canary(name, open_store(common.home), "resume", who, why)
    common.out.result(rollout, f"✓ the rollout of {rollout.ref} goes on at {rollout.weight:.0%}")


def abort_(name: str = "icons", /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Let the stable release answer every request again.

    Args:
        name: The model name.
        why: The reason, for the journal.
        who: The person who decides (default: $CLERESTORY_WHO or the login name).
    """
    rollout = change_canary(name, open_store(common.home), "abort", who, why)
    common.out.result(rollout, f"✓ {rollout.stable_ref} answers every request again; {rollout.ref} was taken back")


def promote_(
    name: str = "icons",
    /,
    *,
    why: str,
    who: str = "",
    new_space: Annotated[bool, Parameter(negative=())] = False,
    without_evidence: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Make the candidate of the rollout live, at any step, once it has answered as many requests as a step needs.

    Args:
        name: The model name.
        why: The reason, for the journal.
        who: The person who decides (default: $CLERESTORY_WHO or the login name).
        new_space: Search indexes that clients have made of the embeddings are made again.
        without_evidence: Promote it although it has answered too few requests for its guardrails to object.
    """
    alias = promote_canary(name, open_store(common.home), who, why, new_space, without_evidence)
    common.out.result(alias, f"✓ {alias.name}@{alias.number} is {alias.alias}")


def _data(store: Store, rollout: Rollout) -> dict[str, Any]:
    with store.database.reading() as connection:
        evidence = read_evidence(connection, rollout.id)
    outcome, reason = judge_step(rollout, evidence, time.time() - rollout.step_started)
    return {
        "rollout": encode(rollout),
        "guardrails": [encode(each) for each in evidence.values()],
        "next": outcome.value if rollout.is_active else "",
        "reason": reason if rollout.is_active else rollout.reason,
    }


def _lines(rollout: Rollout, evidence: dict[Guardrail, GuardrailEvidence]) -> list[str]:
    since = duration(max(0.0, time.time() - rollout.started))
    lines = [
        f"{rollout.ref} beside {rollout.stable_ref}: {rollout.state.value.replace('_', ' ')}, started {since} ago by "
        f"{rollout.who}: {rollout.why}"
    ]
    if not rollout.is_active:
        return [*lines, rollout.reason]
    outcome, reason = judge_step(rollout, evidence, time.time() - rollout.step_started)
    steps = " → ".join(f"{each:.0%}" for each in rollout.plan.steps) or "shadow"
    after = "promoted by the servers" if rollout.plan.auto_promote else "promoted by a person"
    return [*lines, f"share {rollout.weight:.0%} (steps {steps}, then {after})", f"{outcome.value}: {reason}"]


def _shadow(shadow: ShadowCounts) -> list[str | Table]:
    total = shadow.compared + shadow.failed + shadow.skipped
    lines: list[str | Table] = [
        f"{shadow.compared} of {total} requests were embedded by both; {shadow.differing} differ, "
        f"{shadow.failed} failed, {shadow.skipped} were skipped for lack of spare capacity"
    ]
    table = Table("input", "cosine", "text", box=None)
    for digest, cosine, text in shadow.examples[:10]:
        table.add_row(digest[:12], f"{cosine:.3f}", text or "(not kept)")
    return [*lines, table] if shadow.examples else lines


def _evidence_row(each: GuardrailEvidence, rollout: Rollout) -> list[str]:
    counts = each.counts
    e_value = f"{math.exp(each.log_e):,.2g}" if each.log_e < 700 else "above 1e300"
    limit = f"{math.exp(rollout.plan.log_limit):,.0f}"
    stable, candidate = (
        f"{bad} of {total}"
        for bad, total in ((counts.stable_bad, counts.stable), (counts.candidate_bad, counts.candidate))
    )
    return [each.guardrail.value, BAD[each.guardrail], stable, candidate, e_value, limit]


def _share(text: str) -> float:
    """A share such as ``5%`` or ``0.05``."""
    text = text.strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise InputError(f"{text!r} is not a share of the requests", "write it as 5% or 0.05")
    return share


def _seconds(text: str) -> float:
    """A duration such as ``30min``."""
    for unit, seconds in sorted(UNITS.items(), key=lambda item: -len(item[0])):
        if text.endswith(unit):
            try:
                value = float(text.removesuffix(unit)) * seconds
            except ValueError:
                break
            if 0 <= value < 1e9:
                return value
    raise InputError(f"{text!r} is not a duration", "write it as 90s, 30min, 2h or 1d")
