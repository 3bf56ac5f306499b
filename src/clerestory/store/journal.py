"""What happened, in order: an append-only journal in which every record holds the hash of the one before.

``hash = SHA256(previous ‖ record)`` where ``previous`` is the 32 bytes of the hash before (zeros for the first) and
``record`` the canonical JSON (RFC 8785) of the event. Changing, removing or inserting a record breaks every hash
after it; the signed checkpoints show when the end is cut off or the whole chain is written anew.
"""

from __future__ import annotations

import hashlib
import json
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
from clerestory.store.schema import journal as table

START = "0" * 64
_RESTORE = "the journal was changed from outside; compare it with a copy and with the signed checkpoints"


@dataclass(frozen=True, slots=True)
class Record:
    """One event with its place in the chain.

    Attributes:
        seq: 1, 2, … without gaps.
        hash: SHA-256 of ``previous`` and the event.
        previous: the hash of the record before, zeros for the first.
        event: what happened.
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
        database: where the records are.
        checkpoints: where signed heads are kept outside the database.
    """

    def __init__(self, database: Database, checkpoints: Checkpoints) -> None:
        self._database = database
        self.checkpoints = checkpoints

    def append(self, event: Event) -> Record:
        """Record an event in a transaction of its own."""
        with self._database.writing() as connection:
            return self.write(connection, event)

    def write(self, connection: Connection, event: Event) -> Record:
        """Record an event as part of a write transaction of the caller's."""
        seq, previous = _head(connection)
        record = canonical(event)
        entry = Record(seq + 1, chain(previous, record), previous, event)
        connection.execute(
            table.insert().values(
                seq=entry.seq,
                hash=entry.hash,
                previous=previous,
                kind=event.kind,
                subject=event.subject,
                record=record.decode(),
            )
        )
        return entry

    def records(self, subject_prefix: str | None = None, limit: int | None = None) -> list[Record]:
        """The records in the order they happened; ``verify`` says whether they can be trusted.

        Args:
            subject_prefix: only events whose subject begins so, such as ``icons@``.
            limit: only the newest so many.
        """
        with self._database.reading() as connection:
            return self.read(connection, subject_prefix, limit)

    def read(self, connection: Connection, subject_prefix: str | None = None, limit: int | None = None) -> list[Record]:
        """``records`` as part of a transaction of the caller's."""
        query = select(table).order_by(table.c.seq.desc()).limit(limit)
        if subject_prefix is not None:
            # Not LIKE: SQLite's ignores case.
            query = query.where(func.substr(table.c.subject, 1, len(subject_prefix)) == subject_prefix)
        rows = connection.execute(query).all()
        return [Record(r.seq, r.hash, r.previous, self._event(r)) for r in reversed(rows)]

    def _event(self, row: Row[Any]) -> Event:
        try:
            return decode(Event, json.loads(row.record))
        except (ValueError, ConfigError) as error:
            raise IntegrityError(
                f"record {row.seq} of the journal in {self._database.place} is damaged", _RESTORE
            ) from error

    def head(self) -> tuple[int, str]:
        """How many records there are, and the hash of the last."""
        with self._database.reading() as connection:
            return _head(connection)

    def checkpoint(self, when: str) -> Checkpoint | None:
        """Sign the head and length of the chain and keep them outside the database; None for an empty journal."""
        length, head = self.head()
        return self.checkpoints.write(length, head, when) if length else None

    def verify(self) -> list[Finding]:
        """Everything that shows the journal was tampered with; empty when it is whole.

        Each record is hashed again, the numbers must have no gap, and every signed checkpoint must be found in the
        chain.
        """
        # Listed first, so that a checkpoint written meanwhile is not missed in the rows read before it.
        signed = self.checkpoints.files()
        try:
            with self._database.reading() as connection:
                rows = connection.execute(select(table).order_by(table.c.seq)).all()
        except ClerestoryError as error:
            return [_broken(self._database.place, f"the journal cannot be read: {error.message}")]
        findings, hashes, previous = [], [START], START
        for expected, row in enumerate(rows, start=1):
            if problem := _problem(row, expected, previous):
                findings.append(_broken(f"{self._database.place}, journal record {row.seq}", problem))
                break  # every later record would only repeat the same complaint
            previous = row.hash
            hashes.append(row.hash)
        return findings + self.checkpoints.verify(signed, hashes, complete=not findings)


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).first()
    return (row.seq, row.hash) if row else (0, START)


def _problem(row: Row[Any], expected: int, previous: str) -> str:
    """What is wrong with one record, empty when it fits the chain."""
    if row.seq != expected:
        return f"the journal has a gap: record {expected} is missing"
    if row.previous != previous:
        return f"record {row.seq} does not follow the record before it"
    if chain(previous, row.record.encode()) != row.hash:
        return (
            f"record {row.seq} ({row.kind} {row.subject}) is not what was written: its hash {short(row.hash)} differs"
        )
    event = json.loads(row.record)
    if (event["kind"], event["subject"]) != (row.kind, row.subject):
        return f"record {row.seq} is listed as {row.kind} {row.subject}, but says {event['kind']} {event['subject']}"
    return ""


def _broken(where: str, message: str) -> Finding:
    return Finding("CLR-S004", "error", "fail", where, message, _RESTORE)
