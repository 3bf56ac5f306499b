"""Numbering releases and moving the names that point at them."""

from __future__ import annotations

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError, IntegrityError, NotFound, Refused, not_found
from clerestory.core.provenance import now, person
from clerestory.core.release import Alias, Decision, Event, Release
from clerestory.store import Move, Store, went_to

LIVE, PREVIOUS = "live", "previous"
PROMOTED, ROLLED_BACK = "promoted", "rolled_back"


def register(
    name: str, decision: Decision, store: Store, who: str = "", why: str = "", notes: Tags | None = None
) -> Release:
    """Give a decision the next number of its line, whatever its verdict.

    Args:
        name: the line of models, such as ``icons``.
        decision: what the gate said.
        store: where it is written, together with its journal record.
        who: the person; the login name when empty.
        why: the reason that goes into the journal.
        notes: what else a reader should know.
    """
    named = (each for reason in decision.reasons for each in (reason.evidence, reason.against) if each)
    rests_on = tuple(dict.fromkeys(named))
    return store.add_release(name, decision.model, rests_on, decision, who or person(), why, notes)


def promote(
    ref: str,
    store: Store,
    who: str = "",
    why: str = "",
    alias: str = LIVE,
    expected_generation: int | None = None,
) -> Alias:
    """Point an alias at a release; ``live`` leaves the release that was live before as ``previous``.

    Promoting what the alias already points at changes nothing. Promoting a release again after a rollback is how to
    roll forward.

    Args:
        ref: the release, such as ``icons@3``.
        store: where the alias is.
        who: the person; the login name when empty.
        why: the reason, for the journal.
        alias: which alias to move.
        expected_generation: the generation that the person saw; None takes the one that is there now.

    Raises:
        Refused: the gate did not say that it may ship.
        IntegrityError: a file of the model or of its evidence is damaged; names it.
        Conflict: somebody else moved the alias first.
    """
    _need_reason(why)
    release = store.resolve(ref).release
    if release is None:
        raise NotFound(f"{ref} is a model and not a release", f"put it to the gate: clerestory release gate {ref}")
    _may_ship(release)
    _check_sound(release, store)
    current = store.alias(release.name, alias)
    if current is not None and current.number == release.number and expected_generation in (None, current.generation):
        return current
    seen = expected_generation if expected_generation is not None else (current.generation if current else 0)
    moves = [Move(alias, release.number, seen)]
    if alias == LIVE and current is not None:
        moves.append(Move(PREVIOUS, current.number, None))
    return store.move_aliases(release.name, moves, _event(PROMOTED, release, current, who, why))[0]


def rollback(name: str, store: Store, who: str = "", why: str = "") -> Alias:
    """Make the release live again that was live before, and ``previous`` the one before that.

    Raises:
        NotFound: no such line, nothing is live, or nothing was live before.
        IntegrityError: a file of the release to go back to is damaged; names it.
        Conflict: somebody else moved ``live`` first.
    """
    _need_reason(why)
    lines = {release.name for release in store.releases()}
    if name not in lines:
        raise not_found("line of models", name, lines)
    live, previous = store.alias(name, LIVE), store.alias(name, PREVIOUS)
    if live is None:
        raise NotFound(f"no release of {name} is live", f"promote one: clerestory release promote {name}@1 --why '...'")
    if previous is None:
        raise NotFound(
            f"nothing was live before {name}@{live.number}",
            f"promote another one: clerestory release list --name {name}",
        )
    release = store.release(name, previous.number)
    _check_sound(release, store)
    trail = _trail(store, name)
    before = trail[-3] if len(trail) >= 3 else 0
    moves = [Move(LIVE, previous.number, live.generation), Move(PREVIOUS, before, previous.generation)]
    return store.move_aliases(name, moves, _event(ROLLED_BACK, release, live, who, why))[0]


def _trail(store: Store, name: str) -> list[int]:
    """The releases that were live, oldest first, without those that were rolled back; the last one is live."""
    trail: list[int] = []
    for record in store.journal.records(f"{name}@"):
        number = went_to(record.event.details, LIVE)
        if number is None:
            continue
        if record.event.kind == ROLLED_BACK and trail:
            trail.pop()
        else:
            trail.append(number)
    return trail


def _event(kind: str, release: Release, before: Alias | None, who: str, why: str) -> Event:
    details = Tags({"model": release.model, "from": f"{before.name}@{before.number}" if before else ""})
    return Event(kind, release.ref, who or person(), why, now(), details)


def _need_reason(why: str) -> None:
    if not why.strip():
        raise InputError("a move of a release needs a reason", "say why: --why '...'")


def _may_ship(release: Release) -> None:
    decision = release.decision
    if decision.verdict == "ship":
        return
    said = "it may not ship" if decision.verdict == "refuse" else "it cannot tell"
    blocking = [reason for reason in decision.reasons if reason.outcome != "pass"]
    first = f": {blocking[0].message.rstrip('.')}" if blocking else ""
    raise Refused(
        f"{release.ref} is not promoted, the gate says {said}{first}",
        decision.command or f"clerestory release show {release.ref}",
    )


def _check_sound(release: Release, store: Store) -> None:
    findings = store.verify_registry(release.name) + store.verify_model(release.model)
    findings += store.blobs.verify(release.decision.policy_digest, f"the policy {release.decision.policy}")
    for each in release.evidence:
        findings += store.verify_evidence(each)
    if findings:
        first = findings[0]
        raise IntegrityError(f"{release.ref} is not safe to use: {first.message} ({first.where})", first.fix)
