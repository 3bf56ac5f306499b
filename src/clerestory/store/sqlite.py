"""SQLite as the database of a store: a file in WAL mode that many processes read and one writes at a time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import OperationalError

from clerestory.core.files import file_lock, make_folder, sync_folder, temporary_path
from clerestory.store import database_errors
from clerestory.store.database_errors import is_disk_error
from clerestory.store.schema import create_all


def sqlite_engine(url: URL, **options: Any) -> Engine:
    """An engine whose transactions begin as their execution option ``clerestory_writes`` says."""
    engine = create_engine(url, connect_args={"timeout": database_errors.BUSY_SECONDS}, **options)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    # The driver's implicit BEGIN is deferred; ours takes the write lock before anything is read.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("clerestory_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def create_sqlite(file: Path, temporary_folder: Path) -> None:
    """Prepare the database in a temporary file and rename it into place; safe for several processes at once."""
    if file.exists():
        return
    make_folder(file.parent)
    with file_lock(file.with_name(file.name + ".lock")):
        if file.exists():
            return
        temporary = temporary_path(temporary_folder)
        engine = sqlite_engine(URL.create("sqlite", database=str(temporary)), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                connection.connection.execute("PRAGMA journal_mode=WAL")
            with engine.execution_options(clerestory_writes=True).begin() as connection:
                create_all(connection)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(file)
        finally:
            for path in temporary.parent.glob(temporary.name + "*"):
                path.unlink(missing_ok=True)
        sync_folder(file.parent)


@contextmanager
def read_sqlite(engine: Engine, file: Path) -> Iterator[Connection]:
    """A read transaction, also on a full or read-only disk.

    Readers of a database in WAL mode share an index of 32 KiB beside it. Where that cannot be created, nobody else
    has the database open: it is read as it lies on the disk, or from a copy elsewhere if its log still holds changes.
    """
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(engine.connect())
            connection.begin()
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        except OperationalError as error:
            if not is_disk_error(error.orig) or not file.is_file() or not os.access(file, os.R_OK):
                raise
            connection = stack.enter_context(_as_it_lies(file))
        yield connection


@contextmanager
def _as_it_lies(file: Path) -> Iterator[Connection]:
    if has_empty_log(file):
        with _open_immutable(file) as connection:
            yield connection
        return
    log = _log(file)
    with tempfile.TemporaryDirectory(prefix="clerestory-", dir=_folder_elsewhere(file)) as folder:
        copy = Path(folder) / file.name
        shutil.copyfile(file, copy)
        shutil.copyfile(log, copy.with_name(log.name))
        with closing(sqlite3.connect(copy)) as merge:  # puts the changes of the log into the copy
            merge.execute("PRAGMA journal_mode=DELETE")
        with _open_immutable(copy) as connection:
            yield connection


@contextmanager
def _open_immutable(file: Path) -> Iterator[Connection]:
    engine = create_engine("sqlite://", creator=lambda: connect_immutable(file), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def connect_immutable(file: Path) -> sqlite3.Connection:
    """A connection that reads the file and creates none beside it; only where nobody writes and the log is empty."""
    return sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)


def has_empty_log(file: Path) -> bool:
    """Whether everything that was written to a database is in its file, and nothing only in its log."""
    log = _log(file)
    return not log.exists() or log.stat().st_size == 0


def _log(file: Path) -> Path:
    return file.with_name(file.name + "-wal")


def _folder_elsewhere(file: Path) -> str | None:
    """A folder for temporary files on a disk that has room for a copy; None for the default."""
    needed = 2 * file.stat().st_size + 2**20
    for folder in (os.environ.get("TMPDIR", "/tmp"), "/dev/shm"):
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > needed:
            return folder
    return None
