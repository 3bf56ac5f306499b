"""An append-only journal of events in which every record contains the hash of the previous one.

``hash = SHA256(previous ‖ record)`` where ``previous`` is the 32 bytes of the previous hash (zeros for the first) and
``record`` the canonical JSON (RFC 8785) of the event. Changing, removing or inserting a record breaks every hash
after it; the signed checkpoints reveal a truncated or rewritten chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from clerestory.core.codec import decode
from clerestory.core.digest import canonical, short
from clerestory.core.errors import ClerestoryError, ConfigError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.release import Event
from clerestory.store.checkpoints import Checkpoint, Checkpoints
from clerestory.store.database import Database
from clerestory.store.findings import JOURNAL_BROKEN, StoreFault
from clerestory.store.schema import journal as table

START = "0" * 64
_RESTORE = "the journal was changed outside Clerestory; compare it with a backup and with the signed checkpoints"


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One event with its position in the chain.

    Attributes:
        seq: 1, 2, …, without gaps.
        hash: SHA-256 of ``previous`` and the event.
        previous: the hash of the previous record, zeros for the first.
        event: the event.
    """

    seq: int
    hash: str
    previous: str
    event: Event


def chain(previous: str, record: bytes) -> str:
    """The hash of a record that follows the one whose hash is ``previous``."""
    return hashlib.sha256(bytes.fromhex(previous) + record).hexdigest()


class Journal:
    """The journal of one store.

    Args:
        database: holds the records.
        checkpoints: signed heads, stored outside the database.
    """

    def __init__(self, database: Database, checkpoints: Checkpoints) -> None:
        self._database = database
        self.checkpoints = checkpoints

    def append(self, event: Event) -> JournalRecord:
        """Record an event in a transaction of its own."""
        with self._database.writing() as connection:
            return self.write(connection, event)

    def write(self, connection: Connection, event: Event) -> JournalRecord:
        """Record an event as part of a write transaction of the caller."""
        seq, previous = _head(connection)
        record = canonical(event)
        new = JournalRecord(seq + 1, chain(previous, record), previous, event)
        connection.execute(
            table.insert().values(
                seq=new.seq,
                hash=new.hash,
                previous=previous,
                kind=event.kind,
                subject=event.subject,
                record=record.decode(),
            )
        )
        return new

    def records(
        self, subject_prefix: str | None = None, limit: int | None = None, kinds: Collection[str] = ()
    ) -> list[JournalRecord]:
        """The records in their order; ``verify`` checks whether they can be trusted.

        Args:
            subject_prefix: only events whose subject begins with this, such as ``icons@``.
            limit: only the newest ``limit`` records.
            kinds: only events of these kinds; of all kinds if empty.
        """
        with self._database.reading() as connection:
            return self.read(connection, subject_prefix, limit, kinds)

    def read(
        self,
        connection: Connection,
        subject_prefix: str | None = None,
        limit: int | None = None,
        kinds: Collection[str] = (),
    ) -> list[JournalRecord]:
        """``records`` as part of a transaction of the caller."""
        query = select(table).order_by(table.c.seq.desc()).limit(limit)
        if subject_prefix is not None:
            # Not LIKE: SQLite's ignores case.
            query = query.where(func.substr(table.c.subject, 1, len(subject_prefix)) == subject_prefix)
        if kinds:
            query = query.where(table.c.kind.in_(kinds))
        rows = connection.execute(query).all()
        return [JournalRecord(r.seq, r.hash, r.previous, self._event(r)) for r in reversed(rows)]

    def _event(self, row: Row[Any]) -> Event:
        try:
            return decode(Event, json.loads(row.record))
        except (ValueError, ConfigError) as error:
            raise IntegrityError(
                f"record {row.seq} of the journal in {self._database.location} is damaged", _RESTORE
            ) from error

    def stored_records(self) -> tuple[list[bytes], str]:
        """Every record as it is stored, the bytes that the chain covers, and the hash of the last one."""
        with self._database.reading() as connection:
            rows = connection.execute(select(table.c.record, table.c.hash).order_by(table.c.seq)).all()
        return [row.record.encode() for row in rows], rows[-1].hash if rows else START

    def head(self) -> tuple[int, str]:
        """The number of records, and the hash of the last one."""
        with self._database.reading() as connection:
            return _head(connection)

    def checkpoint(self, when: str) -> Checkpoint | None:
        """Sign head and length of the chain and store them outside the database; None for an empty journal."""
        length, head = self.head()
        return self.checkpoints.write(length, head, when) if length else None

    def verify(self) -> list[Finding]:
        """Every sign of tampering; empty if the journal is intact.

        Each record is hashed again, the numbers must have no gap, and every signed checkpoint must match the chain.
        """
        # Listed first: a checkpoint written meanwhile would be compared with rows that were read before it.
        signed = self.checkpoints.files()
        try:
            with self._database.reading() as connection:
                rows = connection.execute(select(table).order_by(table.c.seq)).all()
        except ClerestoryError as error:
            where, message = self._database.location, f"the journal cannot be read: {error.message}"
            reason = StoreFault.JOURNAL_UNREADABLE
            return [JOURNAL_BROKEN.finding(where, message, fix=_RESTORE, reason=reason)]
        findings, hashes, previous = [], [START], START
        for expected, row in enumerate(rows, start=1):
            if fault := _fault(row, expected, previous):
                reason, message = fault
                where = f"{self._database.location}, journal record {row.seq}"
                finding = JOURNAL_BROKEN.finding(where, message, fix=_RESTORE, reason=reason, record=row.seq)
                findings.append(finding)
                break  # every later record would fail as well
            previous = row.hash
            hashes.append(row.hash)
        return findings + self.checkpoints.verify(signed, hashes, complete=not findings)


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).first()
    return (row.seq, row.hash) if row else (0, START)


def _fault(row: Row[Any], expected: int, previous: str) -> tuple[StoreFault, str] | None:
    """The reason and message if a record does not continue the chain, else None."""
    if row.seq != expected:
        return StoreFault.RECORD_MISSING, f"the journal has a gap: record {expected} is missing"
    if row.previous != previous:
        return StoreFault.HASH_MISMATCH, f"record {row.seq} does not contain the hash of the previous record"
    name = f"{row.kind} {row.subject}"
    if chain(previous, row.record.encode()) != row.hash:
        return StoreFault.HASH_MISMATCH, f"record {row.seq} ({name}) does not match its hash {short(row.hash)}"
    event = json.loads(row.record)
    if (event["kind"], event["subject"]) != (row.kind, row.subject):
        message = f"record {row.seq} is indexed as {name} but contains {event['kind']} {event['subject']}"
        return StoreFault.INDEX_MISMATCH, message
    return None
