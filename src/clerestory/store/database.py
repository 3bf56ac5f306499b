"""The connection to the database: its creation, its single writer, and its errors in one sentence each."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from clerestory.core.errors import ClerestoryError, InputError, IntegrityError, MissingExtra
from clerestory.core.evidence import Finding
from clerestory.core.files import file_lock, make_folder, sync_folder, temporary_path
from clerestory.store.findings import DAMAGED, RESTORE, StoreFault
from clerestory.store.schema import create_all, meta
from clerestory.store.store_format import check_format

BUSY_SECONDS = 30
WRITER_LOCK = 0x636C6572  # PostgreSQL advisory lock: a single writer, as in SQLite
_CORRUPT = ("malformed", "not a database", "disk I/O error")


class Database:
    """One SQL database in which at most one transaction writes at a time.

    Args:
        url: an SQLAlchemy url; SQLite and PostgreSQL are supported.
        temporary_folder: holds a new SQLite file until it is renamed into place.

    Raises:
        InputError: the url is invalid, names another kind of database, or the store has another format.
        MissingExtra: the driver of the url is not installed.
    """

    def __init__(self, url: str, temporary_folder: Path) -> None:
        self.url = _parse_url(url)
        self.file = Path(self.url.database or "").absolute() if self.url.drivername.startswith("sqlite") else None
        if self.file is not None:
            _create_sqlite(self.file, temporary_folder)
        try:
            self.engine = _engine(self.url)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise MissingExtra(f"the database {self.location} needs a driver: {error}", _INSTALL_DRIVER) from error
        self._writer = self.engine.execution_options(clerestory_writes=True)
        self._reader = self.engine
        if self.file is None:  # SQLite's readers always see one state
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ")
        _forget_after_fork(self.engine)
        weakref.finalize(self, self.engine.dispose)
        self._check_version()

    @property
    def location(self) -> str:
        """The file or address of the database, without a password."""
        return str(self.file) if self.file else self.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one consistent state."""
        with self._translate_errors(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer overlaps; durable after the block.

        On SQLite it begins with ``BEGIN IMMEDIATE``, so it never fails half-way on a lock.
        """
        with self._translate_errors(), self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": WRITER_LOCK})
            yield connection

    def verify(self) -> list[Finding]:
        """Damage in the database file; SQLite checks every page, other databases check themselves."""
        if self.file is None:
            return []
        try:
            with self.reading() as connection:
                lines = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(3)")]
        except IntegrityError as error:
            lines = [error.message]
        return [
            DAMAGED.finding(
                str(self.file), f"the database file is damaged: {line}", reason=StoreFault.DATABASE_DAMAGED, report=line
            )
            for line in lines
            if line != "ok"
        ]

    def close(self) -> None:
        """Close every connection; the database stays usable."""
        self.engine.dispose()

    def _check_version(self) -> None:
        if self.file is None:
            with self.writing() as connection:
                if inspect(connection).has_table(meta.name):
                    check_format(_version(connection), self.location)
                create_all(connection)
        with self.reading() as connection:
            check_format(_version(connection), self.location)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig)
            if any(word in reason for word in _CORRUPT):
                raise IntegrityError(f"{self.location} is damaged: {reason}", RESTORE) from error
            if isinstance(error, OperationalError):
                raise ClerestoryError(
                    f"the database {self.location} cannot be used: {reason}", _hint(reason)
                ) from error
            raise


_INSTALL_DRIVER = "run: pip install 'psycopg[binary]'"


def _hint(reason: str) -> str:
    if "locked" in reason:
        return f"another process has been writing for more than {BUSY_SECONDS} s; wait for it to finish and try again"
    return "check that the location exists, has free space and is writable"


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError(f"{url!r} is not a database url", "an example is postgresql://user@host/clerestory") from error
    backend = parsed.get_backend_name()
    if backend == "postgresql" and parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend not in ("sqlite", "postgresql"):
        raise InputError(
            f"a store cannot use the database {backend}", "use sqlite:///file or postgresql://user@host/name"
        )
    if backend == "sqlite" and not parsed.database:
        raise InputError("a store cannot be in memory", "use a file: sqlite:///folder/store.db")
    return parsed


def _engine(url: URL, **options: Any) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(url, pool_pre_ping=True, **options)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's implicit BEGIN is deferred; ours takes the write lock before anything is read.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("clerestory_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _create_sqlite(file: Path, temporary_folder: Path) -> None:
    """Prepare the database in a temporary file and rename it into place; safe for several processes at once."""
    if file.exists():
        return
    make_folder(file.parent)
    with file_lock(file.with_name(file.name + ".lock")):
        if file.exists():
            return
        temporary = temporary_path(temporary_folder)
        engine = _engine(URL.create("sqlite", database=str(temporary)), poolclass=NullPool)
        with engine.connect() as connection:
            connection.connection.execute("PRAGMA journal_mode=WAL")
        with engine.execution_options(clerestory_writes=True).begin() as connection:
            create_all(connection)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(file)
        sync_folder(file.parent)


def _forget_after_fork(engine: Engine) -> None:
    """A forked child must not use its parent's connections."""
    reference = weakref.ref(engine)

    def forget() -> None:
        if (inherited := reference()) is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


def _version(connection: Connection) -> str:
    return str(connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar())
