"""Approvals of releases, read from the journal: who requested, approved and declined, and which approvals count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection

from clerestory.core.codec import decode
from clerestory.core.digest import digest
from clerestory.core.errors import ConfigError, IntegrityError
from clerestory.core.people import person_key
from clerestory.core.provenance import now
from clerestory.core.release import ApprovalPolicy, Identity, Policy, Release
from clerestory.store import registry
from clerestory.store.approvers import IDENTITY, VERIFIED, Approver, is_signed_by, read_approvers
from clerestory.store.journal import JournalRecord
from clerestory.store.registry_check import alias_target
from clerestory.store.store import Store

# The kinds of events that approvals depend on.
REQUESTED, APPROVED, DECLINED = "approval_requested", "approved", "approval_declined"
PROMOTED, ROLLED_BACK = "promoted", "rolled_back"


class Void(StrEnum):
    """Why an approval does not count."""

    AUTHOR = "author"
    DECLINED = "declined"
    EXPIRED = "expired"
    NOT_VERIFIED = "not_verified"
    NOT_REQUESTED = "not_requested"
    OTHER_RELEASE = "other_release"
    SAME_PERSON = "same_person"


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """A request, an approval or its refusal, from the journal.

    Attributes:
        seq: the number of the journal record.
        who, why, when: the person, the reason and the time.
        identity: ``verified`` if it is signed with the registered key of that person, else ``stated``.
        login: the login name of the account that it was given from.
        void: why an approval does not count; empty if it counts.
    """

    seq: int
    who: str
    why: str
    when: str
    identity: Identity = "stated"
    login: str = ""
    void: Void | str = ""


@dataclass(frozen=True, slots=True)
class ApprovalState:
    """Where the approval of one release stands.

    Attributes:
        ref: the release.
        author: the person who submitted it to the gate.
        rule: what is required; None if nothing is.
        request: the open request; None if nobody requested an approval, or the request was answered by a rollback.
        declined: the refusal that answered the request; None if there is none.
        approvals: given since the request, oldest first, also those that do not count.
        promoted: who made the release live last; None if nobody did.
    """

    ref: str
    author: str
    rule: ApprovalPolicy | None = None
    request: ApprovalRecord | None = None
    declined: ApprovalRecord | None = None
    approvals: tuple[ApprovalRecord, ...] = ()
    promoted: ApprovalRecord | None = None

    @property
    def counting(self) -> tuple[ApprovalRecord, ...]:
        """The approvals that count."""
        return tuple(each for each in self.approvals if not each.void)

    @property
    def missing(self) -> int:
        """How many approvals are missing."""
        required = self.rule.approvals if self.rule else 0
        return max(0, required - len(self.counting))

    @property
    def shared_accounts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Accounts that recorded two or more of the counting approvals with a stated name, and those names."""
        names: dict[str, list[str]] = {}
        for each in self.counting:
            if each.identity != VERIFIED and each.login:
                names.setdefault(each.login, []).append(each.who)
        return tuple((login, tuple(people)) for login, people in names.items() if len(people) > 1)

    @property
    def excluded(self) -> tuple[str, ...]:
        """The people who cannot give a further approval, each once."""
        names = [each.who for each in self.counting]
        if self.rule is not None and self.rule.approver_must_differ_from_author:
            names = [self.author, *([self.request.who] if self.request else []), *names]
        unique: dict[str, str] = {}
        for name in names:
            unique.setdefault(person_key(name), name)
        return tuple(unique.values())


def read_approvals(
    store: Store, release: Release, connection: Connection | None = None, today: str = ""
) -> ApprovalState:
    """Where the approval of a release stands now.

    Args:
        store: holds the release, its policy and the journal.
        release: of the store.
        connection: of the caller's transaction; one of its own if None.
        today: the time to judge the expiry by, ISO 8601; now if empty.

    Raises:
        IntegrityError: the policy or the journal cannot be read.
        ConfigError: the file of the approvers cannot be read, and there are signatures to verify.
    """
    with nullcontext(connection) if connection is not None else store.database.reading() as transaction:
        records = store.journal.history(transaction, f"{release.name}@")
        rule = _rule_in_force(store, transaction, release, records)
    claimed = any(record.event.details.get(IDENTITY) == VERIFIED for record in records)
    people = read_approvers(store.files) if claimed else ()
    return approval_state(release, rule, records, today or now(), people)


def policy_of(store: Store, release: Release) -> Policy:
    """The policy that a release was decided by.

    Raises:
        IntegrityError, NotFound: its file is damaged or missing.
    """
    try:
        return decode(Policy, json.loads(store.blobs.get(release.decision.policy_digest)))
    except (ValueError, ConfigError) as error:
        raise IntegrityError(
            f"the policy {release.decision.policy} of {release.ref} cannot be read: {error}",
            f"run the gate again: clerestory release gate {release.ref}",
        ) from error


def _rule_in_force(
    store: Store, connection: Connection, release: Release, records: Sequence[JournalRecord]
) -> ApprovalPolicy | None:
    """What the policies of a release and of the release promoted last require together.

    So a policy with a weaker section, or without one, cannot be put into force without the approvals that the one
    before it requires.
    """
    own = policy_of(store, release).approval
    promoted = [r for r in records if r.event.kind == PROMOTED and alias_target(r.event.details, "live") is not None]
    if not promoted:
        return own
    number = alias_target(promoted[-1].event.details, "live")
    if number is None or number == release.number:
        return own
    before = policy_of(store, registry.one_release(connection, release.name, number)).approval
    return before.stricter(own) if before is not None else own


def approval_state(
    release: Release,
    rule: ApprovalPolicy | None,
    records: Sequence[JournalRecord],
    today: str,
    people: Sequence[Approver] = (),
) -> ApprovalState:
    """Where the approval of a release stands, from the journal records of its model name, oldest first.

    A signature counts while its key is registered for that person: removing a key voids its signatures.
    """
    content = digest(release)
    request: ApprovalRecord | None = None
    declined: ApprovalRecord | None = None
    promoted: ApprovalRecord | None = None
    given: list[tuple[JournalRecord, ApprovalRecord]] = []
    for record in records:
        event = record.event
        if event.kind == ROLLED_BACK and event.details.get("from") == release.ref:
            request, declined, given = None, None, []  # what people approved has failed in use: they must agree again
        if alias_target(event.details, "live") == release.number:
            promoted = _read(record, people)
        if event.subject != release.ref:
            continue
        if event.kind == REQUESTED:
            request, declined, given = _read(record, people), None, []
        elif event.kind == DECLINED:
            declined = _read(record, people)
        elif event.kind == APPROVED:
            given.append((record, _read(record, people)))
    state = ApprovalState(release.ref, release.who, rule, request, declined, (), promoted)
    for record, approval in given:
        judged = replace(approval, void=_void(record, approval, state, content, today))
        state = replace(state, approvals=(*state.approvals, judged))
    return state


def _read(record: JournalRecord, people: Sequence[Approver]) -> ApprovalRecord:
    event = record.event
    identity: Identity = "verified" if _claims(record) and is_signed_by(event, people) else "stated"
    return ApprovalRecord(record.seq, event.who, event.why, event.when, identity, event.details.get("login", ""))


def _claims(record: JournalRecord) -> bool:
    """Whether a record says that its person is verified."""
    return record.event.details.get(IDENTITY) == VERIFIED


def _void(
    record: JournalRecord, approval: ApprovalRecord, state: ApprovalState, content: str, today: str
) -> Void | str:
    """Why an approval does not count; empty if it counts beside those before it."""
    rule = state.rule or ApprovalPolicy()
    if record.event.details.get("release") != content:
        return Void.OTHER_RELEASE
    if state.request is None or state.declined is not None:
        return Void.DECLINED if state.declined else Void.NOT_REQUESTED
    # A signature that does not hold is worse than none.
    if (rule.identity == VERIFIED or _claims(record)) and approval.identity != VERIFIED:
        return Void.NOT_VERIFIED
    if person_key(approval.who) in map(person_key, (each.who for each in state.counting)):
        return Void.SAME_PERSON
    if person_key(approval.who) in map(person_key, state.excluded):
        return Void.AUTHOR
    return Void.EXPIRED if is_expired(approval.when, rule, today) else ""


def is_expired(when: str, rule: ApprovalPolicy, today: str) -> bool:
    """Whether an approval of that time no longer holds; the last moment of its last day still counts."""
    if not rule.approval_expires_days:
        return False
    return moment(today) - moment(when) > timedelta(days=rule.approval_expires_days)


def moment(text: str) -> datetime:
    """An ISO 8601 time; without a zone it is UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
