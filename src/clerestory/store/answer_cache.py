"""What a model answered, kept by the content of the question, so that nothing is asked twice.

A key is the SHA-256 of everything an answer depends on (model, code, exact picture, prompt, parameters); a value is
bytes. The file is a cache: it may be deleted at any time, and an entry that is damaged is taken for absent.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CHECK = 8
AT_ONCE = 500
WAIT_SECONDS = 60.0
SCHEMA = "CREATE TABLE IF NOT EXISTS memo (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


def memo_key(*parts: str) -> bytes:
    """The key of an answer: SHA-256 over what it depends on, each part with its length before it."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode()
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.digest()


class Memo:
    """Answers by key, in one SQLite file; safe to use from several threads and processes.

    A call of ``put`` is one transaction: after a kill at any moment either all of its answers are there or none.

    Args:
        file: where it is kept; made when it is not there.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The answers that are known and sound, by key."""
        with self._lock:
            return self._mended(lambda: self._get(keys))

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        with self._open() as connection:
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                # Only the number of question marks varies; the keys are bound.
                for key, value in connection.execute(f"SELECT key, value FROM memo WHERE key IN ({marks})", some):
                    if _check(key, value[CHECK:]) == value[:CHECK]:
                        found[key] = value[CHECK:]
        return found

    def put(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers; one that is there already is replaced."""
        rows = [(key, _check(key, value) + value) for key, value in answers.items()]
        with self._lock:
            self._mended(lambda: self._put(rows))

    def _put(self, rows: list[tuple[bytes, bytes]]) -> None:
        with self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO memo VALUES (?, ?)", rows)

    def __len__(self) -> int:
        with self._lock, self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM memo").fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        connection = _prepared(self.file)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def _mended(self, work: Callable[[], T]) -> T:
        """What ``work`` gives; a file damaged anywhere is put aside first, for nothing but time rests on it."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.file.replace(self.file.with_suffix(".damaged"))
            return work()


def _prepared(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=WAIT_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # A power cut may lose the last answers, never mix them up; they are asked for again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=CHECK).digest()
