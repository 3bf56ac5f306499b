"""Statements of people about requirements, kept as events in the journal of the store.

A statement has an author, a date and an expiry. It counts only while it has not expired, was not withdrawn, its
requirement has the same wording, the journal is intact and, where it signs for measurements, the release has the same
model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from clerestory.core.codec import Tags, encode
from clerestory.core.digest import digest, short
from clerestory.core.errors import InputError
from clerestory.core.provenance import current_user
from clerestory.core.release import Event, Release
from clerestory.core.text import valid_unicode
from clerestory.stages.govern.catalogue import Catalogue, Item
from clerestory.store import JournalRecord, Store

STATED, NOT_APPLICABLE, WITHDRAWN = "governance_stated", "governance_not_applicable", "governance_withdrawn"
KINDS = (STATED, NOT_APPLICABLE, WITHDRAWN)
PREFIX = "govern/"
MAX_TEXT, MAX_NAME = 4_000, 200
DEFAULT_DAYS, MAX_DAYS = 365, 5 * 366
CLOCK_TOLERANCE = timedelta(minutes=5)  # between the clocks of machines with one database


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person stated about a requirement.

    Attributes:
        catalogue, item: their ids.
        who, when: the author and the time (ISO 8601, UTC). The name is as stated: nobody has checked it.
        text: the statement, or the reason why the requirement does not apply.
        expires: the last day on which it counts, as year-month-day.
        not_applicable: whether it says that the requirement does not apply.
        item_digest: of the wording that it was made for.
        release, model: what it was made for: a release and the digest of its model; empty for none.
        record: its number in the journal.
    """

    catalogue: str
    item: str
    who: str
    when: str
    text: str
    expires: str
    not_applicable: bool
    item_digest: str
    release: str = ""
    model: str = ""
    record: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a statement counts.

    Attributes:
        statement: the newest about its requirement.
        counts: whether it does.
        message: who stated what, or why it does not count.
        state_otherwise: the state of the requirement if it does not count.
    """

    statement: Statement
    counts: bool
    message: str
    state_otherwise: Literal["stale", "failed"] = "stale"


def item_digest(item: Item) -> str:
    """SHA-256 of what a requirement says: another title is not another requirement unless there is no text."""
    return digest(encode({"id": item.id, "text": item.text or item.title}))


def subject_of(catalogue: Catalogue, item: Item) -> str:
    """The subject of its events in the journal."""
    return f"{PREFIX}{catalogue.id}/{item.id}"


def clock_problem(records: Sequence[JournalRecord], now: datetime) -> str:
    """A sentence if the clock is before the newest record of the journal, else empty."""
    newest = _newest(records)
    if newest is None or now + CLOCK_TOLERANCE >= newest:
        return ""
    return (
        f"the clock of this computer says {now:%Y-%m-%d %H:%M} UTC, before the newest record of the journal "
        f"({newest:%Y-%m-%d %H:%M} UTC)"
    )


def today_of(records: Sequence[JournalRecord], now: datetime) -> date:
    """The day for expiries: a clock in the past cannot make an expired statement count again."""
    newest = _newest(records)
    return max(now, newest).date() if newest else now.date()


def _newest(records: Sequence[JournalRecord]) -> datetime | None:
    times = []
    for record in records:
        try:
            time = datetime.fromisoformat(record.event.when)
        except ValueError:
            continue
        times.append(time if time.tzinfo else time.replace(tzinfo=UTC))
    return max(times, default=None)


def expiry(text: str, today: date) -> str:
    """The day until which a statement counts; a year from today if none is given.

    Raises:
        InputError: it is not a date, is in the past, or more than five years away.
    """
    if not text:
        return (today + timedelta(days=DEFAULT_DAYS)).isoformat()
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a date", "give it as year-month-day, such as 2027-06-30") from error
    if day < today:
        raise InputError(f"the statement would have expired already, on {day}", f"give a day after {today}")
    if (day - today).days > MAX_DAYS:
        latest = today + timedelta(days=MAX_DAYS)
        raise InputError(
            f"{day} is more than five years away, and a statement that does not expire is not evidence",
            f"give a day up to {latest}",
        )
    return day.isoformat()


def state_items(
    store: Store,
    items: Sequence[tuple[Catalogue, Item]],
    text: str,
    *,
    expires: str = "",
    who: str = "",
    not_applicable: bool = False,
    release: Release | None = None,
    now: datetime | None = None,
) -> list[Statement]:
    """Record a statement about each item: one transaction, one record each.

    Args:
        store: has the journal.
        items: the requirements with their catalogues.
        text: the statement, or the reason why they do not apply.
        expires: the last day on which it counts; a year from today if empty.
        who: the author; the login name if empty.
        not_applicable: state that they do not apply.
        release: what it is made for.
        now: the time; that of the clock if None.

    Raises:
        InputError: the text is empty or too long, the date is not one or is in the past, or the clock is before the
            newest record of the journal.
    """
    moment = now or datetime.now(UTC)
    records = store.journal.records()
    _check_clock(records, moment)
    text, who = _checked_text(text, not_applicable), _checked_who(who)
    day = expiry(expires, moment.date())
    kind = NOT_APPLICABLE if not_applicable else STATED
    events = [
        Event(kind, subject_of(catalogue, item), who, text, _iso(moment), _details(item, day, release))
        for catalogue, item in items
    ]
    with store.database.writing() as connection:
        written = [store.journal.write(connection, event) for event in events]
    store.journal.checkpoint(_iso(moment))
    return [statement for record in written if (statement := read_statement(record)) is not None]


def withdraw(
    store: Store,
    items: Sequence[tuple[Catalogue, Item]],
    why: str,
    *,
    who: str = "",
    now: datetime | None = None,
) -> list[Statement]:
    """Withdraw the newest statement about each item; the record of the statement stays.

    Returns:
        The statements that no longer count.

    Raises:
        InputError: the reason is missing, there is no statement to withdraw, or the clock is in the past.
    """
    moment = now or datetime.now(UTC)
    records = store.journal.records()
    _check_clock(records, moment)
    why, who = _checked_text(why, True, "withdrawing a statement needs a reason"), _checked_who(who)
    current = newest_statements(records)
    withdrawn = []
    for catalogue, item in items:
        statement = current.get((catalogue.id, item.id))
        if statement is None:
            raise InputError(
                f"there is no statement about {item.id} to withdraw", "list them with: clerestory govern statements"
            )
        withdrawn.append(statement)
    with store.database.writing() as connection:
        for catalogue, item in items:
            event = Event(WITHDRAWN, subject_of(catalogue, item), who, why, _iso(moment))
            store.journal.write(connection, event)
    store.journal.checkpoint(_iso(moment))
    return withdrawn


def newest_statements(records: Iterable[JournalRecord]) -> dict[tuple[str, str], Statement]:
    """The newest statement about each requirement, by the ids of catalogue and item, without withdrawn ones."""
    found: dict[tuple[str, str], Statement] = {}
    for record in records:
        event = record.event
        if event.kind not in KINDS or not event.subject.startswith(PREFIX):
            continue
        catalogue, _, item = event.subject.removeprefix(PREFIX).partition("/")
        found.pop((catalogue, item), None)
        statement = read_statement(record)
        if statement is not None:
            found[catalogue, item] = statement
    return found


def read_statement(record: JournalRecord) -> Statement | None:
    """The statement of a record; None if it is another event."""
    event = record.event
    if event.kind not in (STATED, NOT_APPLICABLE) or not event.subject.startswith(PREFIX):
        return None
    catalogue, _, item = event.subject.removeprefix(PREFIX).partition("/")
    details = event.details
    return Statement(
        catalogue=catalogue,
        item=item,
        who=event.who,
        when=event.when,
        text=event.why,
        expires=details.get("expires", ""),
        not_applicable=event.kind == NOT_APPLICABLE,
        item_digest=details.get("item_digest", ""),
        release=details.get("release", ""),
        model=details.get("model", ""),
        record=record.seq,
    )


def standing_of(statement: Statement, item: Item, *, model: str, today: date, journal_intact: bool) -> Standing:
    """Whether a statement counts for an item as it is now.

    Args:
        statement: the newest about the item.
        item: as the catalogue has it today.
        model: digest of the model that is governed.
        today: the day, see ``today_of``.
        journal_intact: whether the journal matches its hash chain and its signed checkpoints.
    """
    said = "said that it does not apply" if statement.not_applicable else "stated"
    by = f"{statement.who} ({statement.when[:10]}, until {statement.expires})"
    if not journal_intact:
        message = f"the statement of {by} is in a journal that was changed outside Clerestory, so it does not count."
        return Standing(statement, False, message, "failed")
    if statement.expires < today.isoformat():
        message = f"the statement of {statement.who} of {statement.when[:10]} expired on {statement.expires}."
        return Standing(statement, False, message)
    if statement.item_digest != item_digest(item):
        message = f"{by} {said} this about another wording of the requirement."
        return Standing(statement, False, message)
    if item.kind == "P" and not statement.not_applicable and statement.model and statement.model != model:
        made_for = statement.release or short(statement.model)
        message = f"{by} signed for {made_for}, which has another model."
        return Standing(statement, False, message)
    return Standing(statement, True, f"{by} {said}: {statement.text}")


def _details(item: Item, day: str, release: Release | None) -> Tags:
    details = {"expires": day, "item_digest": item_digest(item)}
    if release is not None:
        details |= {"release": release.ref, "model": release.model}
    return Tags(details)


def _check_clock(records: Sequence[JournalRecord], now: datetime) -> None:
    if problem := clock_problem(records, now):
        raise InputError(problem, "correct the clock: a statement needs its true date")


def _checked_text(text: str, not_applicable: bool, empty: str = "") -> str:
    text = valid_unicode(text.strip())
    if not text:
        option = "--why" if not_applicable else "--text"
        raise InputError(empty or f"a statement needs a text: {option} is empty", f"give it: {option} '...'")
    if len(text) > MAX_TEXT:
        raise InputError(
            f"the text has {len(text):,} characters, more than {MAX_TEXT:,}",
            "state the essence, and name the document that has the rest",
        )
    return text


def _checked_who(who: str) -> str:
    who = valid_unicode(who.strip() or current_user())
    if len(who) > MAX_NAME or not who.isprintable():
        raise InputError(
            "the name of the author is not a name", f"give up to {MAX_NAME} printable characters with --who"
        )
    return who


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
