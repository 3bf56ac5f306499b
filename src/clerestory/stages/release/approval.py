"""Request, approve and decline a release, and the check of its approvals when it is promoted.

Each is one journal record. Approvals are judged again in the transaction that moves the alias, so two approvals or two
promotions at once cannot both rest on what only one of them has seen.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from clerestory.core.codec import Tags
from clerestory.core.digest import digest, short
from clerestory.core.errors import ClerestoryError, InputError, NotFound, Refused
from clerestory.core.people import person_key, person_name
from clerestory.core.provenance import current_user, now
from clerestory.core.release import VERDICT_TEXTS, Event, Release
from clerestory.stages.release.decision import changed_digests, describe_changes
from clerestory.store import Store
from clerestory.store.approvals import (
    APPROVED,
    DECLINED,
    REQUESTED,
    ApprovalState,
    moment,
    read_approvals,
)
from clerestory.store.approvers import STATED, Signer, identity_details

CLOCK_TOLERANCE = timedelta(minutes=5)  # between the clocks of machines that share a store
EMERGENCY = "emergency"  # the value of ``approval`` in the record of a rollback without its approvals


def request_approval(ref: str, store: Store, why: str, who: str = "", signer: Signer | None = None) -> ApprovalState:
    """Ask for the approval of a release; the approvals given before do not count any more.

    Args:
        ref: the release, such as ``icons@3``.
        store: records it.
        why: the reason, for the people who approve.
        who: the person who asks; the login name if empty.
        signer: of the person, whose identity is then verified.

    Raises:
        NotFound: the release is unknown.
        Refused: the verdict of the gate is not ``ship``.
        InputError: there is no reason, the release needs no approval, or its approval is requested already.
    """
    release = _release(ref, store)
    if release.decision.verdict != "ship":
        raise Refused(
            f"{release.ref} cannot be approved: the gate's verdict is '{VERDICT_TEXTS[release.decision.verdict]}'",
            release.decision.command or f"clerestory release show {release.ref}",
        )

    def check(state: ApprovalState, person: str) -> None:
        if state.rule is None or not state.rule.approvals:
            raise InputError(
                f"the policy {release.decision.policy} requires no approval of {release.ref}",
                f"promote it: clerestory release promote {release.ref} --why '...'",
            )
        if state.request is not None and state.declined is None:
            raise InputError(
                f"{state.request.who} requested the approval of {release.ref} already, on {state.request.when[:10]}",
                f"another person approves it: clerestory release approve {release.ref} --why '...'",
            )

    return _record(REQUESTED, release, store, who, why, signer, check)


def approve(ref: str, store: Store, why: str, who: str = "", signer: Signer | None = None) -> ApprovalState:
    """Approve a release: exactly this one, with its model, evidence and decision.

    Arguments as for ``request_approval``.

    Raises:
        NotFound: the release is unknown.
        Refused: this person may not approve it, or the release was declined.
        InputError: there is no reason, or nobody requested an approval.
    """
    release = _release(ref, store)
    return _record(
        APPROVED, release, store, who, why, signer, lambda state, person: _may_approve(state, person, signer)
    )


def decline(ref: str, store: Store, why: str, who: str = "", signer: Signer | None = None) -> ApprovalState:
    """Decline a release: approvals given so far do not count, until its approval is requested again.

    Arguments as for ``request_approval``.

    Raises:
        NotFound: the release is unknown.
        InputError: there is no reason, or nobody requested an approval.
    """
    release = _release(ref, store)
    return _record(DECLINED, release, store, who, why, signer, lambda state, _: _require_request(state))


def approval_guard(release: Release, store: Store, who: str) -> Callable[[Connection], Tags]:
    """The check of a promotion, for the transaction that moves the alias.

    Returns:
        A function from the transaction to the further details of the journal record; it raises ``Refused`` if the
        promotion lacks an approval, or if the approvals are void because the evidence is stale.
    """

    def check(connection: Connection) -> Tags:
        check_clock(store, connection, now())
        state = read_approvals(store, release, connection)
        rule = state.rule
        if rule is None:
            return Tags()
        if rule.promoter_must_differ_from_author and person_key(who) == person_key(release.who):
            raise Refused(
                f"{release.ref} cannot be promoted by {who}, who submitted it to the gate",
                f"another person promotes it: clerestory release promote {release.ref} --why '...'",
            )
        if rule.approvals:
            _require_approvals(state)
            _require_fresh_evidence(release, store)
        identities = sorted({each.identity for each in state.counting})
        return Tags(
            approved_by=", ".join(each.who for each in state.counting),
            approval_records=", ".join(str(each.seq) for each in state.counting),
            approvals_identity=", ".join(identities),
            identity=STATED,  # of the person who promotes
        )

    return check


def rollback_guard(release: Release, store: Store) -> Callable[[Connection], Tags]:
    """The check of a rollback to a release: without its approvals it is recorded as such, or refused by the policy."""

    def check(connection: Connection) -> Tags:
        state = read_approvals(store, release, connection)
        if state.rule is None or not state.rule.approvals or not state.missing:
            return Tags()
        if state.rule.rollback_needs_approval:
            _require_approvals(state)
        return Tags(approval=EMERGENCY)

    return check


def check_clock(store: Store, connection: Connection, when: str) -> None:
    """Check that the clock is not behind the journal: approvals that expire, and the order of events, depend on it.

    Raises:
        InputError: the time is earlier than that of the last record; names both.
    """
    last = store.journal.read(connection, limit=1)
    if last and moment(last[0].event.when) - moment(when) > CLOCK_TOLERANCE:
        raise InputError(
            f"the clock of this computer says {when}, before the last record of the journal ({last[0].event.when})",
            "set the clock, then run the command again",
        )


def _record(
    kind: str,
    release: Release,
    store: Store,
    who: str,
    why: str,
    signer: Signer | None,
    check: Callable[[ApprovalState, str], None],
) -> ApprovalState:
    """Write one journal record if the state of the approval allows it, in one transaction."""
    if not why.strip():
        raise InputError("an approval, its request and its refusal need a reason", "give it: --why '...'")
    person = signer.name if signer else person_name(who or current_user())  # a registered name is signed as it is
    with store.database.writing() as connection:
        when = now()
        check_clock(store, connection, when)
        check(read_approvals(store, release, connection), person)
        event = Event(kind, release.ref, person, why, when, Tags(release=digest(release), login=login_name()))
        details = Tags(event.details, **identity_details(event, signer))
        store.journal.write(connection, replace(event, details=details))
    store.journal.checkpoint(now())
    return read_approvals(store, release)


def login_name() -> str:
    """The login name of this account, whatever name the person states."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        return "unknown"


def _release(ref: str, store: Store) -> Release:
    release = store.resolve(ref).release
    if release is None:
        raise NotFound(f"{ref} is a model and not a release", f"run the gate on it: clerestory release gate {ref}")
    return release


def _require_request(state: ApprovalState) -> None:
    fix = f"request it: clerestory release request {state.ref} --why '...'"
    if state.declined is not None:
        raise Refused(f"{state.declined.who} declined {state.ref} on {state.declined.when[:10]}", fix)
    if state.request is None:
        raise InputError(f"nobody has requested the approval of {state.ref}", fix)


def _may_approve(state: ApprovalState, person: str, signer: Signer | None) -> None:
    _require_request(state)
    rule, request = state.rule, state.request
    if rule is None or request is None:
        return
    if rule.identity == "verified" and signer is None:
        raise Refused(
            f"the approval of {state.ref} must be signed, and {person} gave no key",
            f"clerestory release approve {state.ref} --key FILE --why '...'",
        )
    mine = person_key(person)
    if any(person_key(each.who) == mine for each in state.counting):
        raise Refused(f"{person} has approved {state.ref} already", _ask_another(state))
    if rule.approver_must_differ_from_author and mine in (person_key(state.author), person_key(request.who)):
        role = "submitted it to the gate" if mine == person_key(state.author) else "requested the approval"
        raise Refused(f"{state.ref} cannot be approved by {person}, who {role}", _ask_another(state))


def _require_approvals(state: ApprovalState) -> None:
    if state.rule is None or not state.missing:
        return
    problem = f"{state.ref} cannot be promoted: "
    try:
        _require_request(state)
    except ClerestoryError as error:
        raise Refused(problem + error.message, error.fix) from None
    given = f"; {' and '.join(each.who for each in state.counting)} approved it" if state.counting else ""
    void = [each for each in state.approvals if each.void]
    lost = f"; the approval by {void[-1].who} does not count ({str(void[-1].void).replace('_', ' ')})" if void else ""
    count = f"{state.missing} of {state.rule.approvals} approvals {'is' if state.missing == 1 else 'are'} missing"
    raise Refused(f"{problem}{count}{given}{lost}", _ask_another(state))


def _ask_another(state: ApprovalState) -> str:
    *most, last = state.excluded or ("",)
    others = f"a person other than {', '.join(most)}{' and ' if most else ''}{last}" if last else "another person"
    return f"{others} runs: clerestory release approve {state.ref} --why '...'"


def _require_fresh_evidence(release: Release, store: Store) -> None:
    """Approvals rest on the evidence; when that is stale they are void."""
    for each in release.evidence:
        evidence = store.evidence(each)
        if evidence.subject.model == release.model and (changed := changed_digests(evidence)):
            raise Refused(
                f"the approvals of {release.ref} are void: its evidence {short(each)} was produced "
                f"{describe_changes(changed)}",
                f"clerestory evaluate {release.ref} --since {release.ref}; then run the gate and request approval",
            )
