"""Whether this version of Clerestory can read a store, checked without changing anything in it."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from clerestory.core.errors import InputError
from clerestory.store.schema import SCHEMA_VERSION


def check_home(home: Path) -> None:
    """Check the format of the store in a folder; a folder without a readable database passes.

    Raises:
        InputError: the store has the format of another version.
    """
    # Opened like any other database, SQLite would create its -wal and -shm files in the folder of the store.
    uri = f"{(home / 'store.db').absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
            newest = connection.execute("SELECT model FROM releases ORDER BY position DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return
    names = [str(newest[0])] if newest else sorted(path.name for path in (home / "models").glob("*"))
    if row is not None:
        check_format(str(row[0]), f"the store {home}", str(home / "models" / names[0]) if names else "")


def check_format(version: str, location: str, model: str = "") -> None:
    """Reject a store of another format, with the command that evaluates its models in a new store.

    Args:
        version: the format of the store.
        location: its folder or URL, for people.
        model: the folder of one of its models, if known.

    Raises:
        InputError: the store has the format of another version.
    """
    if version == SCHEMA_VERSION:
        return
    formats = f"store format {version}, and this version reads format {SCHEMA_VERSION}"
    if not version.isdigit() or int(version) > int(SCHEMA_VERSION):
        message = f"{location} was created by a newer version of Clerestory ({formats})"
        raise InputError(message, "upgrade Clerestory, or use another store with --home")
    raise InputError(
        f"{location} was created by an earlier version of Clerestory ({formats}): its evidence and releases cannot be "
        "read, but its models and data can be used again",
        "leave it as it is and evaluate its models in a new store: clerestory evaluate "
        f"{shlex.quote(model) if model else 'FOLDER/models/DIGEST'} --data icons --home .clerestory-new",
    )


def has_records(home: Path) -> bool:
    """Whether the database in a folder has records."""
    uri = f"{(home / 'store.db').absolute().as_uri()}?mode=ro"
    query = " UNION ALL ".join(f"SELECT 1 FROM {table}" for table in ("journal", "models", "evidence")) + " LIMIT 1"
    for more in ("", "&immutable=1"):  # the latter reads from a disk where SQLite cannot create its files
        try:
            with closing(sqlite3.connect(uri + more, uri=True)) as connection:
                return connection.execute(query).fetchone() is not None
        except sqlite3.Error:
            continue
    return False
