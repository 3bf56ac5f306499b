"""Records of the journal by kind, subject, person and time, a page at a time, the newest first."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import func, select

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, IntegrityError, NotFound
from clerestory.core.release import Event
from clerestory.store.journal import JournalRecord
from clerestory.store.schema import journal as table
from clerestory.store.store import Store

BLOCK = 2_000  # records that are read at once
MAX_SCANNED = 100_000  # of one page; the next one resumes there


@dataclass(frozen=True, slots=True)
class JournalFilter:
    """Which records to list; an empty value matches any.

    Attributes:
        kind: the kind of event.
        subject: what the subject begins with, such as ``icons@``.
        who: the person, in full; upper and lower case are the same.
        since, until: ISO 8601, or the beginning of it, such as a date; both included.
    """

    kind: str = ""
    subject: str = ""
    who: str = ""
    since: str = ""
    until: str = ""

    def fits(self, event: Event) -> bool:
        """Whether an event meets the conditions on person and time, which are not columns of the table."""
        if self.who and event.who.casefold() != self.who.casefold():
            return False
        return self.since <= event.when and (not self.until or event.when[: len(self.until)] <= self.until)


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Some records.

    Attributes:
        records: the newest first.
        before: the number of the record to go on before; 0 if there are no more.
    """

    records: tuple[JournalRecord, ...]
    before: int


def search_journal(store: Store, wanted: JournalFilter, before: int = 0, limit: int = 50) -> JournalPage:
    """The newest records that meet the conditions.

    Args:
        store: has the journal.
        wanted: the conditions.
        before: only records with a smaller number; all if 0.
        limit: the largest number of records.

    Raises:
        IntegrityError: a record cannot be read.
    """
    found: list[JournalRecord] = []
    scanned = 0
    with store.database.reading() as connection:
        while scanned < MAX_SCANNED:
            query = select(table).order_by(table.c.seq.desc()).limit(BLOCK)
            if before:
                query = query.where(table.c.seq < before)
            if wanted.kind:
                query = query.where(table.c.kind == wanted.kind)
            if wanted.subject:
                # Not LIKE: SQLite's ignores case.
                query = query.where(func.substr(table.c.subject, 1, len(wanted.subject)) == wanted.subject)
            rows = connection.execute(query).all()
            for row in rows:
                record = JournalRecord(row.seq, row.hash, row.previous, _event(row.seq, row.record))
                if wanted.fits(record.event):
                    if len(found) == limit:
                        return JournalPage(tuple(found), found[-1].seq)
                    found.append(record)
            scanned += len(rows)
            if len(rows) < BLOCK:
                return JournalPage(tuple(found), 0)
            before = rows[-1].seq
    return JournalPage(tuple(found), before)


def one_record(store: Store, seq: int) -> JournalRecord:
    """One record by its number.

    Raises:
        NotFound: the journal has no such record.
        IntegrityError: it cannot be read.
    """
    with store.database.reading() as connection:
        row = connection.execute(select(table).where(table.c.seq == seq)).first()
    if row is None:
        raise NotFound(f"the journal has no record {seq}", "start from the newest records")
    return JournalRecord(row.seq, row.hash, row.previous, _event(row.seq, row.record))


def journal_kinds(store: Store) -> list[str]:
    """The kinds of event that the journal has."""
    with store.database.reading() as connection:
        return sorted(connection.execute(select(table.c.kind).distinct()).scalars())


def _event(seq: int, record: str) -> Event:
    try:
        return decode(Event, json.loads(record))
    except (ValueError, ConfigError) as error:
        raise IntegrityError(f"record {seq} of the journal is damaged", "restore the store from a backup") from error
