"""Number releases, and move the aliases that point at them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from sqlalchemy import Connection

from clerestory.core.codec import Tags
from clerestory.core.errors import Conflict, InputError, IntegrityError, NotFound, Refused, not_found
from clerestory.core.people import person_name
from clerestory.core.provenance import current_user, now
from clerestory.core.release import VERDICT_TEXTS, Alias, Decision, Event, Release
from clerestory.stages.release.approval import approval_guard, rollback_guard
from clerestory.stages.release.embedding_space import check_embedding_space
from clerestory.store import AliasMove, Store, alias_target, registry
from clerestory.store.approvals import PROMOTED, ROLLED_BACK, read_approvals
from clerestory.store.operations import rollouts
from clerestory.store.operations.release_notices import notify_release
from clerestory.store.operations.rollouts import (
    Guardrail,
    Rollout,
    RolloutPlan,
    RolloutState,
    add_rollout,
    change_rollout,
    close_rollout,
    require_rollout,
)
from clerestory.store.registry import how_to_go_live

LIVE, PREVIOUS = "live", "previous"
CanaryAction = Literal["pause", "resume", "abort"]
_CANARY_ACTIONS: dict[CanaryAction, tuple[str, RolloutState]] = {
    "pause": (rollouts.PAUSED, RolloutState.PAUSED),
    "resume": (rollouts.RESUMED, RolloutState.RUNNING),
    "abort": (rollouts.ABORTED, RolloutState.ABORTED),
}


def register(
    name: str, decision: Decision, store: Store, who: str = "", why: str = "", notes: Tags | None = None
) -> Release:
    """Register a decision under the next number of its model name, whatever its verdict.

    Args:
        name: the model name, such as ``icons``.
        decision: the decision of the gate.
        store: receives it, together with a journal record.
        who: the author; the login name if empty.
        why: the reason, for the journal.
        notes: further information.
    """
    ids = (each for reason in decision.reasons for each in (reason.evidence, reason.reference_evidence) if each)
    evidence = tuple(dict.fromkeys(ids))
    return store.add_release(name, decision.model, evidence, decision, who or current_user(), why, notes)


def promote(
    ref: str,
    store: Store,
    who: str = "",
    why: str = "",
    alias: str = LIVE,
    expected_generation: int | None = None,
    new_space: bool = False,
) -> Alias:
    """Point an alias at a release; for ``live``, the release that was live before becomes ``previous``.

    Promoting the release that the alias already points at changes nothing. To roll forward after a rollback, promote
    the release again.

    Args:
        ref: the release, such as ``icons@3``.
        store: holds the alias.
        who: the author; the login name if empty.
        why: the reason, for the journal.
        alias: the alias to move.
        expected_generation: the generation that the author read; None for the current one.
        new_space: whether indexes of embeddings from the API are made again, so that another embedding space is fine.

    Raises:
        Refused: the verdict of the gate is not ``ship``, approvals that the policy requires for ``live`` are missing
            or void, or indexes that others have made of the embeddings would not fit any more.
        Undecided: whether they would fit has not been measured.
        InputError: the clock is behind the journal.
        IntegrityError: a file of the model or of its evidence is damaged; names it.
        Conflict: another person moved the alias first.
    """
    _require_reason(why)
    who = person_name(who or current_user())
    release = store.resolve(ref).release
    if release is None:
        raise NotFound(f"{ref} is a model and not a release", f"run the gate on it: clerestory release gate {ref}")
    require_ship(release)
    current = store.alias(release.name, alias)
    unchanged = (
        current is not None and current.number == release.number and expected_generation in (None, current.generation)
    )
    guard = approval_guard(release, store, who) if alias == LIVE and not unchanged else None
    if alias == LIVE and current is not None and not unchanged and not new_space:
        check_embedding_space(store, store.release(release.name, current.number), release)
    if guard is not None:
        with store.database.reading() as connection:
            guard(connection)  # the answer at once, before every file is read; it counts where the alias moves
    _check_files(release, store)
    if guard is not None and read_approvals(store, release).rule is not None:
        _check_journal(release, store)
    if unchanged and current is not None:
        return current
    generation = expected_generation if expected_generation is not None else (current.generation if current else 0)
    moves = [AliasMove(alias, release.number, generation)]
    event = _event(PROMOTED, release, current, who, why)
    if alias == LIVE:
        guard = _going_live(release, store, event, guard)
        if current is not None:
            moves.append(AliasMove(PREVIOUS, current.number, None))
    return store.move_aliases(release.name, moves, event, guard)[0]


def rollback(name: str, store: Store, who: str = "", why: str = "") -> Alias:
    """Make the previous release live again, and the one before it ``previous``.

    It needs no approval, unless the policy of the release to go back to says so; without its approvals the record says
    ``approval=emergency``.

    Raises:
        NotFound: the model name is unknown, no release of it is live, or none was live before.
        Refused: the policy requires approvals for a rollback, and they are missing.
        IntegrityError: a file of the release to go back to is damaged; names it.
        Conflict: another person moved ``live`` first.
    """
    _require_reason(why)
    release, live = check_rollback(name, store)
    previous = store.alias(name, PREVIOUS)
    if previous is None or previous.number != release.number:
        raise Conflict(f"{name}@{PREVIOUS} was moved meanwhile", "look at the releases: clerestory release list")
    history = _live_history(store, name)
    before = history[-3] if len(history) >= 3 else 0
    moves = [AliasMove(LIVE, previous.number, live.generation), AliasMove(PREVIOUS, before, previous.generation)]
    event = _event(ROLLED_BACK, release, live, who, why)
    return store.move_aliases(name, moves, event, _going_live(release, store, event, rollback_guard(release, store)))[0]


def check_rollback(name: str, store: Store) -> tuple[Release, Alias]:
    """The release that a rollback would make live, with its files and approvals checked, and the live alias.

    Raises:
        ClerestoryError: as ``rollback``.
    """
    names = {release.name for release in store.releases()}
    if name not in names:
        raise not_found("model", name, names)
    live, previous = store.alias(name, LIVE), store.alias(name, PREVIOUS)
    if live is None:
        raise NotFound(f"no release of {name} is live", how_to_go_live(name, store.releases(name)))
    if previous is None:
        raise NotFound(
            f"no release was live before {name}@{live.number}",
            f"promote another one: clerestory release list --name {name}",
        )
    release = store.release(name, previous.number)
    _check_files(release, store)
    with store.database.reading() as connection:
        rollback_guard(release, store)(connection)
    return release, live


def start_canary(ref: str, store: Store, plan: RolloutPlan, who: str = "", why: str = "") -> Rollout:
    """Let a release answer a share of the requests beside the live one; it needs all that a promotion needs.

    Args:
        ref: the release, such as ``icons@4``.
        store: holds the rollout.
        plan: the shares, their duration and the guardrails.
        who: the author; the login name if empty.
        why: the reason, for the journal.

    Raises:
        Refused: the verdict of the gate is not ``ship``, approvals are missing or void, or indexes would not fit.
        Undecided: whether indexes would fit has not been measured.
        InputError: the release is live already.
        NotFound: no release is live, so there is nothing to compare it with.
        IntegrityError: a file of the model or of its evidence is damaged; names it.
        Conflict: another rollout of this model name is active.
    """
    _require_reason(why)
    who = person_name(who or current_user())
    release = store.resolve(ref).release
    if release is None:
        raise NotFound(f"{ref} is a model and not a release", f"run the gate on it: clerestory release gate {ref}")
    require_ship(release)
    live = store.alias(release.name, LIVE)
    if live is None:
        raise NotFound(
            f"no release of {release.name} is live, so there is nothing to compare {release.ref} with",
            f"promote it: clerestory release promote {release.ref} --why '...'",
        )
    if live.number == release.number:
        raise InputError(f"{release.ref} is live already", "name another release: clerestory release list")
    check_live(release.name, live, store)
    if not plan.new_space and not plan.shadow:
        check_embedding_space(store, store.release(release.name, live.number), release)
    _check_files(release, store)
    guard = approval_guard(release, store, who)
    store.database.ensure_operations()
    with store.database.writing() as connection:
        details = guard(connection)
        stable = registry.alias_state(connection, release.name, LIVE).number
        rollout = add_rollout(connection, store.journal, release.name, stable, release.number, plan, who, why, details)
    store.journal.checkpoint(now())
    return rollout


def change_canary(name: str, store: Store, action: CanaryAction, who: str = "", why: str = "") -> Rollout:
    """Pause, resume or abort the rollout of a model name.

    Raises:
        NotFound: none is active.
        InputError: it is paused already, or is not paused.
        Conflict: somebody else changed it at the same time.
    """
    _require_reason(why)
    who = person_name(who or current_user())
    store.database.ensure_operations()
    with store.database.writing() as connection:
        rollout = require_rollout(connection, name)
        kind, state = _CANARY_ACTIONS[action]
        if state is rollout.state or (action == "resume" and rollout.state is not RolloutState.PAUSED):
            raise InputError(
                f"the rollout of {rollout.ref} is {rollout.state.value}", "clerestory release canary status"
            )
        changes = {"step_started": time.time()} if action == "resume" else {}
        rollout = change_rollout(connection, store.journal, rollout, kind, who, why, state=state, **changes)
    store.journal.checkpoint(now())
    return rollout


def promote_canary(
    name: str, store: Store, who: str = "", why: str = "", new_space: bool = False, without_evidence: bool = False
) -> Alias:
    """Make the candidate of the active rollout live, as ``promote`` does; the rollout ends in the same transaction.

    Args:
        name: the model name.
        store: holds the rollout.
        who: the author.
        why: the reason, for the journal.
        new_space: whether another embedding space than that of the live release is accepted.
        without_evidence: whether a candidate may be promoted that has answered too few requests to be judged.

    Raises:
        NotFound: no rollout is active.
        Refused: its guardrails have counted fewer requests of the candidate than a step needs.
        ClerestoryError: as ``promote``.
    """
    store.database.ensure_operations()
    with store.database.reading() as connection:
        rollout = require_rollout(connection, name)
        counted = rollouts.read_evidence(connection, rollout.id)[Guardrail.ERRORS].counts.candidate
    if counted < rollout.plan.min_requests and not rollout.plan.shadow and not without_evidence:
        raise Refused(
            f"{rollout.ref} has answered {counted:,} of the {rollout.plan.min_requests:,} requests that a step needs, "
            "so no guardrail could object",
            f"wait for requests: clerestory release canary status {name}; or promote it all the same with "
            "--without-evidence",
        )
    return promote(rollout.ref, store, who, why, new_space=new_space or rollout.plan.new_space)


def check_live(name: str, alias: Alias | None, store: Store) -> None:
    """Check, before a release is served, that the alias ``live`` is where the journal says and that the gate passed it.

    Args:
        name: the model name.
        alias: the alias as it was read; None if it points at nothing.
        store: holds the releases and the journal.

    Raises:
        IntegrityError: the journal, a release or an alias has been changed outside Clerestory.
        Refused: the verdict of the gate is not ``ship``.
    """
    findings = store.journal.verify_new() + store.verify_registry(name)
    if findings:
        raise IntegrityError(f"{name}@{LIVE} cannot be trusted: {findings[0].message}", findings[0].fix)
    if alias is not None:
        require_ship(store.release(name, alias.number), "served")


def _going_live(
    release: Release, store: Store, event: Event, guard: Callable[[Connection], Tags] | None
) -> Callable[[Connection], Tags]:
    """A guard of the move of ``live`` that also ends the rollout of the name, whose stable release is not live then.

    It queues the notice of the move, too: all of that is one transaction.
    """
    store.database.ensure_operations()

    def check(connection: Connection) -> Tags:
        details = guard(connection) if guard is not None else Tags()
        details = Tags(details, **close_rollout(connection, release.name, release.number))
        notify_release(connection, replace(event, details=Tags(event.details, **details)))
        return details

    return check


def _live_history(store: Store, name: str) -> list[int]:
    """The releases that were live, oldest first, without those that were rolled back; the last one is live."""
    history: list[int] = []
    with store.database.reading() as connection:
        records = store.journal.history(connection, f"{name}@")
    for record in records:
        number = alias_target(record.event.details, LIVE)
        if number is None:
            continue
        if record.event.kind == ROLLED_BACK and history:
            history.pop()
        else:
            history.append(number)
    return history


def _event(kind: str, release: Release, before: Alias | None, who: str, why: str) -> Event:
    details = Tags({"model": release.model, "from": f"{before.name}@{before.number}" if before else ""})
    return Event(kind, release.ref, who or current_user(), why, now(), details)


def _require_reason(why: str) -> None:
    if not why.strip():
        raise InputError("promoting or rolling back a release needs a reason", "give it: --why '...'")


def require_ship(release: Release, done: str = "promoted") -> None:
    """Check that the gate has passed a release.

    Raises:
        Refused: it has not; names the first reason.
    """
    decision = release.decision
    if decision.verdict == "ship":
        return
    blocking = [reason for reason in decision.reasons if reason.outcome != "pass"]
    first = f"; {blocking[0].message.rstrip('.')}" if blocking else ""
    raise Refused(
        f"{release.ref} cannot be {done}: the gate's verdict is '{VERDICT_TEXTS[decision.verdict]}'{first}",
        decision.command or f"clerestory release show {release.ref}",
    )


def _check_journal(release: Release, store: Store) -> None:
    """Approvals are journal records: they count only while its chain and its signed checkpoints agree."""
    if findings := store.journal.verify_new():
        raise IntegrityError(
            f"the approvals of {release.ref} cannot be trusted: {findings[0].message}", findings[0].fix
        )


def _check_files(release: Release, store: Store) -> None:
    findings = store.verify_registry(release.name) + store.verify_model(release.model)
    findings += store.blobs.verify(release.decision.policy_digest, f"the policy {release.decision.policy}")
    for each in release.evidence:
        findings += store.verify_evidence(each)
    if findings:
        first = findings[0]
        raise IntegrityError(f"{release.ref} is not safe to use: {first.message} ({first.where})", first.fix)
