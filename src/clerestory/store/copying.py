"""Copying a whole store into an empty one: another folder, another database, or both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, select

from clerestory.core.digest import digest_file
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding
from clerestory.core.files import atomic_path, translate_disk_errors
from clerestory.core.progress import QUIET, Progress
from clerestory.store.database import Database, sqlite_file
from clerestory.store.schema import evidence, meta, metadata, models
from clerestory.store.store import Store
from clerestory.store.store_folder import KEY, MARK, is_empty

ROWS_AT_ONCE = 1000
# Not copied, by the beginning of their names: SQLite files (the records are copied row by row, the answers are only a
# cache), unfinished files, and the mark of the other store.
_LEFT_OUT = ("store.db", "answers.", "tmp", MARK)


@dataclass(frozen=True, slots=True)
class CopiedStore:
    """What was copied.

    Attributes:
        folder: the folder of the copy.
        database: the location of its database.
        files: the number of files.
        records: the number of rows by table.
        findings: every file and record of the copy that is damaged or missing.
    """

    folder: str
    database: str
    files: int
    records: dict[str, int]
    findings: tuple[Finding, ...]


def copy_store(source: Store, folder: Path, url: str | None = None, progress: Progress = QUIET) -> CopiedStore:
    """Copy everything: the records, the files, and the key that signs the journal; the source is only read.

    The records come last, in one transaction, and files that are there are not copied again: after a kill the same call
    goes on.

    Args:
        source: the store to copy.
        folder: a new folder for the files of the copy.
        url: an empty database for its records; a SQLite file in the new folder when None.
        progress: reports each file.

    Raises:
        InputError: the folder is in the store or contains it, or is that of another store; the database has records.
    """
    place = folder.expanduser().resolve()
    for home in (source.home.resolve(), source.files.resolve()):
        if place == home or place in home.parents or home in place.parents:
            raise InputError(f"the store in {home} cannot be copied to {place}", "name a folder outside it")
    if url is not None:  # before the folder becomes that of the store
        file = sqlite_file(url)
        _check_empty(Database(url, file.parent if file else place))
    with Store(place, url) as target:
        return _copy(source, target, progress)


def _copy(source: Store, target: Store, progress: Progress) -> CopiedStore:
    _check_empty(target.database)
    key = target.files / KEY
    if key.exists() and key.read_bytes() != (source.files / KEY).read_bytes():
        raise InputError(f"{target.files} has the key of another store", "copy into a new folder")
    # Listed before the records are read: a checkpoint written meanwhile would be ahead of them.
    files = sorted(_files(source))
    with source.database.reading() as connection:
        tables = [table for table in metadata.sorted_tables if table is not meta]
        rows = {table: [dict(row) for row in connection.execute(_in_order(table)).mappings()] for table in tables}
    with progress.task("copying files", len(files)) as task:
        for path in files:
            with translate_disk_errors(target.files):
                _copy_file(source.files / path, target.files / path)
            task.advance()
    with target.database.writing() as connection:
        if not is_empty(connection):  # another process came first
            raise _not_empty(target.database)
        for table, values in rows.items():
            for start in range(0, len(values), ROWS_AT_ONCE):
                connection.execute(insert(table), values[start : start + ROWS_AT_ONCE])
    counts = {table.name: len(values) for table, values in rows.items()}
    return CopiedStore(str(target.files), target.database.location, len(files), counts, _verify(target))


def _check_empty(database: Database) -> None:
    with database.reading() as connection:
        if not is_empty(connection):
            raise _not_empty(database)


def _not_empty(database: Database) -> InputError:
    return InputError(
        f"the database {database.location} has records already", "copy into a new folder and an empty database"
    )


def _in_order(table: Table) -> Any:
    """The rows without the numbers that the database gives, in their order."""
    if "position" not in table.c:
        return select(table)
    return select(*(column for column in table.c if column.name != "position")).order_by(table.c.position)


def _files(source: Store) -> Iterator[Path]:
    for path in source.files.rglob("*"):
        relative = path.relative_to(source.files)
        if path.is_file() and not relative.parts[0].startswith(_LEFT_OUT):
            yield relative


def _copy_file(source: Path, target: Path) -> None:
    if (
        target.is_file()
        and target.stat().st_size == source.stat().st_size
        and digest_file(target) == digest_file(source)
    ):
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        shutil.copymode(source, temporary)


def _verify(store: Store) -> tuple[Finding, ...]:
    """Every sign that the copy is not what its digests say."""
    findings = store.journal.verify() + store.database.verify()
    for name in sorted({release.name for release in store.releases()}):
        findings += store.verify_registry(name)
    with store.database.reading() as connection:
        ids = connection.execute(select(evidence.c.id)).scalars().all()
        digests = connection.execute(select(models.c.digest)).scalars().all()
    for id in ids:
        findings += store.verify_evidence(id)
    for model in digests:
        findings += store.verify_model(model)
    return tuple(findings)
