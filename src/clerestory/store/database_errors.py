"""Errors of the database as errors of Clerestory, chosen by SQLite's error name and PostgreSQL's SQLSTATE."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

from clerestory.core.errors import ClerestoryError, Conflict, InputError, IntegrityError, NotWritable, Unavailable
from clerestory.core.files import why_unwritable
from clerestory.store.findings import RESTORE

BUSY_SECONDS = 30
_MIGRATE = "run: clerestory store migrate (as the owner of the tables)"
_OWN_SCHEMA = "give the store a database or a schema of its own, first in the search_path of the role"
_OTHER_VALUE = "use text without control characters, and smaller numbers"
_AGAIN = "nothing of the last step was recorded; run the command again"
_GRANTS = "ask the owner of the database for the grants in docs/how-to/store-on-postgresql.md"


@contextmanager
def translate_database_errors(url: URL, file: Path | None) -> Iterator[None]:
    """Turn the errors of a block that uses a database into errors with one sentence and a remedy.

    Args:
        url: of the database.
        file: of a SQLite database, None for PostgreSQL.

    Raises:
        ClerestoryError: or a subclass that fits.
    """
    try:
        yield
    except DBAPIError as error:
        raise (_of_sqlite(error.orig, file) if file else _of_postgresql(error, url)) from error
    except sqlite3.Error as error:
        raise _of_sqlite(error, file or Path(str(url.database))) from error
    except SQLAlchemyError as error:
        raise _unusable(location(url, file), str(error)) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise InputError(f"a value cannot be stored in the database: {error}", _OTHER_VALUE) from error


def location(url: URL, file: Path | None) -> str:
    """The file or URL of a database, without a password."""
    return str(file) if file else url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def _unusable(where: str, reason: str) -> Unavailable:
    sentence = f"the database {where} cannot be used: {' '.join(reason.split())}"
    return Unavailable(sentence, "run it again with --debug for the details")


def _append_only(where: str, reason: str) -> IntegrityError:
    return IntegrityError(f"{where} refuses the change: {reason}", "stored records are never changed; add a new one")


def _busy() -> Unavailable:
    return Unavailable(
        f"another process has kept the store locked for more than {BUSY_SECONDS} s",
        "wait for it to finish, or end it if it has stopped, and try again",
    )


def _of_sqlite(error: BaseException | None, file: Path) -> ClerestoryError:
    name, reason = getattr(error, "sqlite_errorname", ""), str(error)
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return IntegrityError(f"{file} is damaged: {reason}", RESTORE)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return _busy()
    if name == "SQLITE_CONSTRAINT_TRIGGER":
        return _append_only(str(file), reason)
    if name.startswith("SQLITE_CONSTRAINT"):
        return Conflict(f"another process wrote the same record to {file} ({reason})", _AGAIN)
    if is_disk_error(error):
        fix = "free space and allow writing there, or choose another folder with --home"
        if file.exists() and not (file.is_file() and os.access(file, os.R_OK)):
            reason = os.strerror(errno.EACCES) if file.is_file() else "it is not a file"
            return Unavailable(f"{file} cannot be read: {reason}", "restore it, or allow reading and writing it")
        # SQLite says "disk I/O error" for a full disk as for a broken one; trying to write there names the reason.
        return NotWritable(f"{file} cannot be written: {why_unwritable(file.parent) or reason}", fix)
    return _unusable(str(file), reason)


def is_disk_error(error: object) -> bool:
    """Whether SQLite could not use its files: a full or read-only disk, missing rights, a failing device."""
    names = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
    return getattr(error, "sqlite_errorname", "").startswith(names)


def _of_postgresql(error: DBAPIError, url: URL) -> ClerestoryError:
    where, state = location(url, None), getattr(error.orig, "sqlstate", None) or ""
    reason = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
    if isinstance(error, DataError):
        return InputError(f"a value cannot be stored in {where}: {reason}", _OTHER_VALUE)
    known: dict[str, ClerestoryError] = {
        "55P03": _busy(),
        "P0001": _append_only(where, reason),
        "23505": Conflict(f"another process wrote the same record to {where} ({reason})", _AGAIN),
        "42501": NotWritable(f"the role of {where} lacks a right: {reason}", _GRANTS),
        "42P01": InputError(f"{where} lacks a table of this version: {reason}", _MIGRATE),
        "42703": InputError(f"{where} has a table of another application or version: {reason}", _OWN_SCHEMA),
        "3F000": InputError(f"{where} has no schema for the store: {reason}", _OWN_SCHEMA),
        "25006": NotWritable(f"{where} is read-only: {reason}", "name the primary server in CLERESTORY_DB"),
        "53100": NotWritable(f"the disk of {where} is full: {reason}", "free space on the database server"),
        "53300": Unavailable(f"{where} has no free connection: {reason}", "raise max_connections or try again"),
        "57014": Unavailable(f"{where} ended the statement: {reason}", "raise statement_timeout of the role"),
    }
    if state in known:
        return known[state]
    if state.startswith("40"):  # deadlocks and serialization failures
        return Conflict(f"another process interfered with this step in {where}: {reason}", _AGAIN)
    if state.startswith(("08", "57P", "25P03")) or (error.connection_invalidated and error.statement):
        return Unavailable(f"the connection to {where} was lost: {reason}", _AGAIN)
    if not state:
        fix = "check that the server runs, and the host, role, password and database in CLERESTORY_DB"
        return Unavailable(f"the database {where} cannot be reached: {reason}", fix)
    return _unusable(where, reason)
