"""One store is one database and one folder of files: blobs, models, checkpoints and the key that signs them.

A store whose database is in its folder (``store.db``) needs no record of that. For any other, the database holds an id
and the path of the folder, and the folder a file ``store.json`` with the same id. A second folder that is opened with
the same database holds working files only; the files of the store stay where they are.
"""

from __future__ import annotations

import json
import shlex
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from clerestory.core.errors import InputError
from clerestory.core.files import make_folder, remove_leftovers, translate_disk_errors, write_atomic
from clerestory.store.database import Database
from clerestory.store.schema import cache, evidence, journal, meta, models
from clerestory.store.store_format import has_records

MARK = "store.json"
KEY = Path("keys") / "journal.ed25519"
_ID, _FOLDER = "store", "files"


@dataclass(frozen=True, slots=True)
class FolderMark:
    """What a folder says about its store, whose database is elsewhere.

    Attributes:
        store: the id of the store.
        database: its location, without a password.
        holds_files: whether the files of the store are in this folder; otherwise only working files.
    """

    store: str
    database: str
    holds_files: bool


def prepare(folder: Path, *names: str) -> None:
    """Create a folder with its subfolders and remove leftovers; one that exists may be full or read-only.

    Raises:
        InputError: the folder does not exist and cannot be created.
    """
    with translate_disk_errors(folder):
        make_folder(folder)
    with suppress(OSError):  # reading goes on without them, and writing says what is wrong
        for name in ("tmp", *names):
            make_folder(folder / name)
        remove_leftovers(folder / "tmp")


def read_mark(folder: Path) -> FolderMark | None:
    """The mark of a folder; None when it has none.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / MARK
    try:
        return FolderMark(**json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "restore it from a backup of the store") from error


def refuse_marked(home: Path) -> None:
    """Raise when a folder whose store has its database elsewhere is opened without the url of that database."""
    if mark := read_mark(home):
        raise InputError(
            f"the folder {home} belongs to the store in {mark.database}, and CLERESTORY_DB is not set",
            "set CLERESTORY_DB to that database, or choose another folder with --home",
        )


def bind(home: Path, database: Database) -> Path:
    """The folder with the files of the store in ``database``; the first folder that is opened with it becomes that.

    Raises:
        InputError: ``home`` belongs to another store, or the folder of the files cannot be reached.
    """
    mark = read_mark(home)
    if mark is None and has_records(home):
        raise InputError(
            f"the folder {home} has a store in its own file store.db, and CLERESTORY_DB names the database "
            f"{database.location}",
            "to move it there: env -u CLERESTORY_DB clerestory store copy NEW_FOLDER --database "
            f"{shlex.quote(database.location)} --home {shlex.quote(str(home))}; or choose another folder with --home",
        )
    with database.reading() as connection:
        recorded = _recorded(connection)
    if not recorded:
        recorded = _record(home, mark, database)
        mark = read_mark(home)
    id, folder = recorded
    if mark is not None and mark.store != id:
        raise _belongs_elsewhere(home, mark)
    holds_files = mark is not None and mark.holds_files
    if not holds_files:
        found = read_mark(folder)
        if found is None or found.store != id:
            raise InputError(
                f"the files of the store {database.location} are in {folder}, which cannot be reached from here or "
                "is not that folder any more",
                "mount it there, or name the folder where they are now with --home",
            )
    wanted = FolderMark(id, database.location, holds_files)
    if mark != wanted:
        with suppress(OSError):
            _write_mark(home, wanted)
    return home if holds_files else folder


def _belongs_elsewhere(home: Path, mark: FolderMark) -> InputError:
    return InputError(
        f"the folder {home} belongs to another store, whose database is {mark.database}",
        "choose another folder with --home, or another database with CLERESTORY_DB",
    )


def _recorded(connection: Connection) -> tuple[str, Path] | None:
    rows = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.in_((_ID, _FOLDER)))).all()
    values = {row.key: row.value for row in rows}
    return (values[_ID], Path(values[_FOLDER])) if len(values) == 2 else None


def _record(home: Path, mark: FolderMark | None, database: Database) -> tuple[str, Path]:
    """Make ``home`` the folder of a store that has none yet."""
    with database.writing() as connection:
        if recorded := _recorded(connection):  # another process came first
            return recorded
        # A mark of this very database was written by a process that was killed before it could commit.
        if mark is not None and mark.database != database.location:
            raise _belongs_elsewhere(home, mark)
        if mark is None and not is_empty(connection) and not (home / KEY).exists():
            raise InputError(
                f"the store in {database.location} has records, and their files are not in {home}",
                f"name the folder that has them (and {KEY}) with --home",
            )
        id = mark.store if mark else str(uuid.uuid4())
        connection.execute(meta.insert().values([{"key": _ID, "value": id}, {"key": _FOLDER, "value": str(home)}]))
        with translate_disk_errors(home):
            _write_mark(home, FolderMark(id, database.location, True))
    return id, home


def is_empty(connection: Connection) -> bool:
    """Whether a store has no records yet."""
    queries = (select(column).limit(1) for column in (journal.c.seq, evidence.c.id, models.c.digest, cache.c.key))
    return all(connection.execute(query).first() is None for query in queries)


def _write_mark(folder: Path, mark: FolderMark) -> None:
    write_atomic(folder / MARK, json.dumps(asdict(mark), indent=2).encode())
