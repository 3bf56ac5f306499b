"""A cache of model answers by the content of the query, so that the same query runs once.

A key is the SHA-256 of everything an answer depends on (model, code, exact image, prompt, parameters); a value is
bytes. The file may be deleted at any time, and a damaged entry counts as absent.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar

from clerestory.core.files import make_folder
from clerestory.store.database_errors import is_disk_error
from clerestory.store.sqlite import connect_immutable, has_empty_log

T = TypeVar("T")

CHECKSUM_BYTES = 8
KEYS_PER_QUERY = 500
TIMEOUT_SECONDS = 60.0
SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


def answer_key(*parts: str) -> bytes:
    """The key of an answer: SHA-256 over everything it depends on, each part preceded by its length."""
    hasher = hashlib.sha256()
    for part in parts:
        content = part.encode()
        hasher.update(len(content).to_bytes(8, "big") + content)
    return hasher.digest()


class AnswerCache:
    """Answers by key in one SQLite file; safe to use from several threads and processes.

    A call of ``put`` is one transaction: after a kill at any moment either all of its answers are there or none.

    Args:
        file: path of the SQLite file; created on first use.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored answers whose checksum is correct, by key."""
        with self._lock:
            return self._replacing_damaged_file(lambda: self._get(keys), {})

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        answers: dict[bytes, bytes] = {}
        with self._open_to_read() as connection:
            for start in range(0, len(keys), KEYS_PER_QUERY):
                batch = keys[start : start + KEYS_PER_QUERY]
                marks = ",".join("?" * len(batch))
                # Only the number of question marks varies; the keys are bound.
                for key, value in connection.execute(f"SELECT key, value FROM answers WHERE key IN ({marks})", batch):
                    if _checksum(key, value[CHECKSUM_BYTES:]) == value[:CHECKSUM_BYTES]:
                        answers[key] = value[CHECKSUM_BYTES:]
        return answers

    def put(self, answers: Mapping[bytes, bytes]) -> None:
        """Store answers; existing ones are replaced. On a full or read-only disk they are not stored."""
        rows = [(key, _checksum(key, value) + value) for key, value in answers.items()]
        with self._lock:
            self._replacing_damaged_file(lambda: self._put(rows), None)

    def _put(self, rows: list[tuple[bytes, bytes]]) -> None:
        try:
            with self._open() as connection:
                connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
        except (sqlite3.OperationalError, OSError) as error:
            if isinstance(error, sqlite3.OperationalError) and not is_disk_error(error):
                raise

    def __len__(self) -> int:
        with self._lock, self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        make_folder(self.file.parent)
        connection = _connect(self.file)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    @contextmanager
    def _open_to_read(self) -> Iterator[sqlite3.Connection]:
        """Like ``_open``; on a full or read-only disk the file is read as it lies there, or nothing is found."""
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._open())
            except (sqlite3.OperationalError, OSError) as error:
                if isinstance(error, sqlite3.OperationalError) and not is_disk_error(error):
                    raise
                # A file that was created when nothing could be written any more is empty.
                readable = self.file.is_file() and self.file.stat().st_size > 0 and has_empty_log(self.file)
                connection = connect_immutable(self.file) if readable else sqlite3.connect(":memory:")
                stack.enter_context(closing(connection))
                if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone() is None:
                    connection = stack.enter_context(closing(sqlite3.connect(":memory:")))
                    connection.execute(SCHEMA)
            yield connection

    def _replacing_damaged_file(self, operation: Callable[[], T], otherwise: T) -> T:
        """The result of ``operation``; a damaged file is moved aside first, since losing a cache only costs time.

        On a read-only disk it cannot be moved, and the result is ``otherwise``.
        """
        try:
            return operation()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            try:
                self.file.replace(self.file.with_suffix(".damaged"))
                for suffix in ("-wal", "-shm"):  # SQLite would replay the log into the new file
                    self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
            except OSError:
                return otherwise
            return operation()


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=TIMEOUT_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # A power cut may lose the last answers, but never corrupts the others; those queries run again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=CHECKSUM_BYTES).digest()
