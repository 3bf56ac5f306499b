"""The database of a store: one writer at a time, readers that see one state, errors in one sentence each."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from clerestory.core.errors import InputError, IntegrityError, MissingExtra
from clerestory.core.evidence import Finding
from clerestory.store import postgresql
from clerestory.store.database_errors import location, translate_database_errors
from clerestory.store.findings import DAMAGED, UNPROTECTED, StoreFault
from clerestory.store.operations.schema import TABLES as OPERATIONS
from clerestory.store.schema import create_all, meta, metadata, missing_triggers
from clerestory.store.sqlite import create_sqlite, read_sqlite, sqlite_engine
from clerestory.store.store_format import check_format

_INSTALL_DRIVER = "run: pip install 'clerestory[postgres]'"


class Database:
    """One SQL database in which at most one transaction writes at a time.

    Opening it reads the format and changes nothing, except that an empty database gets its tables.

    Args:
        url: an SQLAlchemy url; SQLite and PostgreSQL are supported.
        temporary_folder: holds a new SQLite file until it is renamed into place.

    Attributes:
        created: the tables and triggers that opening it created.

    Raises:
        InputError: the url is invalid, names another kind of database, or the store has another format.
        MissingExtra: the driver of the url is not installed.
    """

    def __init__(self, url: str, temporary_folder: Path) -> None:
        self.url = _parse_url(url)
        self.file = sqlite_file(url)
        self.created: list[str] = []
        self._has_operations = False
        with self._translate_errors():
            if self.file is not None:
                create_sqlite(self.file, temporary_folder)
            self.engine = _engine(self.url, self.location)
        self._reader: Engine = self.engine
        self._writer: Engine = self.engine.execution_options(clerestory_writes=True)
        if self.file is None:  # SQLite's readers always see one state
            self._reader, self._writer = postgresql.reader(self.engine), postgresql.writer(self.engine)
        _forget_after_fork(self.engine)
        weakref.finalize(self, self.engine.dispose)
        self._check_format()

    @property
    def location(self) -> str:
        """The file or URL of the database, without a password."""
        return location(self.url, self.file)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one consistent state."""
        with self._translate_errors():
            transaction = read_sqlite(self.engine, self.file) if self.file else self._reader.begin()
            with transaction as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer overlaps; durable after the block.

        It takes the lock of the writer when it begins, so it never fails half-way on a lock.
        """
        with self._translate_errors(), self._writer.begin() as connection:
            yield connection

    def migrate(self) -> list[str]:
        """Create the tables and triggers that are missing; returns their names."""
        with self.writing() as connection:
            return create_all(connection)

    def ensure_operations(self) -> None:
        """Create the tables of operations in a SQLite file of an earlier version; others are migrated by their owner.

        Raises:
            NotWritable: they are missing, and the file cannot be written.
        """
        if self._has_operations or self.file is None:
            return
        with self.reading() as connection:
            missing = {table.name for table in OPERATIONS} - set(inspect(connection).get_table_names())
        if missing:
            self.migrate()
        self._has_operations = True

    def verify(self) -> list[Finding]:
        """Damage in the database file (of SQLite; others check themselves), and missing triggers."""
        lines = []
        try:
            with self.reading() as connection:
                if self.file is not None:
                    report = connection.exec_driver_sql("PRAGMA integrity_check(3)")
                    lines = [str(row[0]) for row in report if row[0] != "ok"]
                unprotected = missing_triggers(connection)
        except IntegrityError as error:
            lines, unprotected = [error.message], []
        findings = [
            DAMAGED.finding(
                self.location,
                f"the database file is damaged: {line}",
                reason=StoreFault.DATABASE_DAMAGED,
                report=line,
            )
            for line in lines
        ]
        if unprotected:
            message = f"triggers that make tables append-only are missing or disabled: {', '.join(unprotected)}"
            findings.append(UNPROTECTED.finding(self.location, message, reason=StoreFault.TRIGGER_MISSING))
        return findings

    def close(self) -> None:
        """Close every connection; the database stays usable."""
        self.engine.dispose()

    def _check_format(self) -> None:
        with self.reading() as connection:
            version = _version(connection)
        if version is None and self.file is None:
            with self.writing() as connection:  # whoever comes second finds the tables of the first
                version = _version(connection)
                if version is None:
                    self._refuse_other_tables(connection)
                    self.created = create_all(connection)
                    version = _version(connection)
        if version is None:
            raise InputError(
                f"{self.location} is not a database of Clerestory", "restore it from a backup, or name another"
            )
        check_format(version, self.location)

    def _refuse_other_tables(self, connection: Connection) -> None:
        _check_encoding(connection, self.location)
        if others := sorted(metadata.tables.keys() & set(inspect(connection).get_table_names())):
            raise InputError(
                f"{self.location} has tables of another application, such as {others[0]}",
                "give the store a database or a schema of its own",
            )

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        with translate_database_errors(self.url, self.file):
            yield


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite url; None for another database."""
    parsed = _parse_url(url)
    return Path(parsed.database or "").absolute() if parsed.get_backend_name() == "sqlite" else None


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        shown = re.sub(r":[^:@/]*@", ":***@", url)
        raise InputError(
            f"{shown!r} is not a database url", "an example is postgresql://user@host/clerestory"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername=postgresql.DRIVER)
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise InputError(
            f"a store cannot use the database {backend}", "use sqlite:///file or postgresql://user@host/name"
        )
    if backend == "sqlite" and not parsed.database:
        raise InputError("a store cannot be in memory", "use a file: sqlite:///folder/store.db")
    return parsed


def _engine(url: URL, where: str) -> Engine:
    if url.get_backend_name() == "sqlite":
        return sqlite_engine(url)
    if url.drivername != postgresql.DRIVER:
        raise MissingExtra(f"the database {where} needs a driver that Clerestory does not use", "write postgresql://")
    try:
        return postgresql.postgresql_engine(url)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise MissingExtra(f"the database {where} needs a driver: {error}", _INSTALL_DRIVER) from error


def _check_encoding(connection: Connection, where: str) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise InputError(
            f"{where} has the encoding {encoding}, which cannot hold every text",
            "create the database with: ENCODING 'UTF8' TEMPLATE template0",
        )


def _forget_after_fork(engine: Engine) -> None:
    """A forked child must not use its parent's connections."""
    reference = weakref.ref(engine)

    def forget() -> None:
        if (inherited := reference()) is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


def _version(connection: Connection) -> str | None:
    """The format of the store; None when there is none yet."""
    if not inspect(connection).has_table(meta.name):
        return None
    version = connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar()
    return None if version is None else str(version)
