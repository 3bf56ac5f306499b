"""An append-only journal of events in which every record contains the hash of the previous one.

``hash = SHA256(previous ‖ record)`` where ``previous`` is the 32 bytes of the previous hash (zeros for the first) and
``record`` the canonical JSON (RFC 8785) of the event. Changing, removing or inserting a record breaks every hash
after it; the signed checkpoints reveal a truncated or rewritten chain.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select

from clerestory.core.codec import decode
from clerestory.core.digest import canonical, short
from clerestory.core.errors import ClerestoryError, ConfigError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.release import Event
from clerestory.store.checkpoints import Checkpoint, Checkpoints, length_of
from clerestory.store.database import Database
from clerestory.store.findings import JOURNAL_BROKEN, StoreFault
from clerestory.store.schema import journal as table

START = "0" * 64
SHORT = 1_000  # records that are verified again at each change: it takes about 10 ms
PAGE = 5_000  # records in memory at once while the chain is verified
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


class Head(NamedTuple):
    """A place in the chain: the number of a record and its hash."""

    seq: int
    hash: str


@dataclass(slots=True)
class _History:
    """The records of one prefix of subjects that this process has read, up to a place in the chain."""

    head: Head = Head(0, START)
    records: list[JournalRecord] = field(default_factory=list)


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
        self._verified = Head(0, START)  # the chain up to here was verified by this process
        self._histories: dict[str, _History] = {}
        self._lock = threading.Lock()

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

    def history(self, connection: Connection, subject_prefix: str) -> list[JournalRecord]:
        """``read(connection, subject_prefix)``; each record is read and decoded once in a process.

        What is in memory is used only while the database still has its last record.
        """
        end = Head(*_head(connection))
        with self._lock:
            known = self._histories.get(subject_prefix, _History())
            if known.head.seq > end.seq:  # an older state of the database, or a restored one
                return self.read(connection, subject_prefix)
            if _hash_of(connection, known.head.seq) != known.head.hash:
                known = _History()
            query = select(table).where(
                table.c.seq > known.head.seq,
                func.substr(table.c.subject, 1, len(subject_prefix)) == subject_prefix,
            )
            rows = connection.execute(query.order_by(table.c.seq)).all()
            new = [JournalRecord(r.seq, r.hash, r.previous, self._event(r)) for r in rows]
            self._histories[subject_prefix] = _History(end, known.records + new)
            return list(self._histories[subject_prefix].records)

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
        It reads the records in pages: memory does not grow with the journal.
        """
        return self._verify_after(Head(0, START))

    def verify_new(self) -> list[Finding]:
        """``verify`` for what was added since this process last verified the chain; the whole of a short journal.

        A record before that is compared through the hash of the last one that was verified, which the next record
        contains. A change further back is found by ``verify``, which a server runs when it starts.
        """
        start = self._verified
        if start.seq <= SHORT:
            return self.verify()
        try:
            with self._database.reading() as connection:
                unchanged = _hash_of(connection, start.seq) == start.hash
        except ClerestoryError:
            unchanged = False  # ``verify`` says why
        return self._verify_after(start) if unchanged else self.verify()

    def _verify_after(self, start: Head) -> list[Finding]:
        # Listed first: a checkpoint written meanwhile would be compared with rows that were read before it.
        signed = [path for path in self.checkpoints.files() if not start.seq or length_of(path) >= start.seq]
        wanted = self.checkpoints.lengths(signed)
        head, hashes = start, {start.seq: start.hash}
        findings: list[Finding] = []
        try:
            while rows := self._page(head.seq):
                for row in rows:
                    if fault := _fault(row, head.seq + 1, head.hash):
                        findings.append(self._broken(row, *fault))
                        break  # every later record would fail as well
                    head = Head(row.seq, row.hash)
                    if row.seq in wanted:
                        hashes[row.seq] = row.hash
                if findings:
                    break
        except ClerestoryError as error:
            where, message = self._database.location, f"the journal cannot be read: {error.message}"
            reason = StoreFault.JOURNAL_UNREADABLE
            return [JOURNAL_BROKEN.finding(where, message, fix=_RESTORE, reason=reason)]
        findings += self.checkpoints.verify(signed, hashes, head.seq, complete=not findings)
        if not findings:
            self._verified = head
        return findings

    def _page(self, after: int) -> list[Row[Any]]:
        query = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(PAGE)
        with self._database.reading() as connection:
            return list(connection.execute(query).all())

    def _broken(self, row: Row[Any], reason: StoreFault, message: str) -> Finding:
        where = f"{self._database.location}, journal record {row.seq}"
        return JOURNAL_BROKEN.finding(where, message, fix=_RESTORE, reason=reason, record=row.seq)


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).first()
    return (row.seq, row.hash) if row else (0, START)


def _hash_of(connection: Connection, seq: int) -> str:
    """The stored hash of a record; that of the empty chain for 0, empty if there is no such record."""
    if not seq:
        return START
    return str(connection.execute(select(table.c.hash).where(table.c.seq == seq)).scalar() or "")


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
