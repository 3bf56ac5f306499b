"""``clerestory store``: copies the whole store, and prepares a database for it."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.table import Table
from rich.text import Text

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.store import Store, copy_store, migrate_store, open_store


def copy_(folder: Path, /, *, database: str = "", common: Common = PLAIN) -> int:
    """Copy the whole store into a new folder, and its records into another database; exit code 1 when it is damaged.

    The store itself is only read and stays as it is. An interrupted copy goes on when it is run again.

    Args:
        folder: A new folder for the files of the copy.
        database: An empty database for its records, such as postgresql://user@host/name (default: a SQLite file in
            the new folder).
    """
    source = open_store(common.home)
    place = folder.expanduser().resolve()
    for home in (source.home.resolve(), source.files.resolve()):  # before the folder becomes a store
        if place == home or place in home.parents or home in place.parents:
            raise InputError(f"the store in {home} cannot be copied to {place}", "name a folder outside it")
    target = Store(place, database or None)
    copied = copy_store(source, target, common.out)
    table = Table(box=None, show_header=False)
    for finding in copied.findings:
        table.add_row(Text("✗", "red"), finding.code, Text(finding.where), Text(finding.message))
    total = sum(copied.records.values())
    verified = (
        f"{len(copied.findings)} problems found" if copied.findings else "every digest, signature and chain verified"
    )
    common.out.result(
        {"folder": target.files, "database": target.database.location, "copied": copied},
        Text(f"copied {copied.files:,} files to {target.files} and {total:,} records to {target.database.location}"),
        *([table] if copied.findings else []),
        Text(verified),
    )
    setting = f"CLERESTORY_DB={shlex.quote(target.database.location)} " if database else ""
    common.out.next(f"{setting}clerestory release list --home {shlex.quote(str(target.files))}")
    return 1 if copied.findings else 0


def migrate_(*, common: Common = PLAIN) -> None:
    """Create the tables and triggers that the database lacks; run it as the owner of the database.

    The database is the one that CLERESTORY_DB names, else that of the folder. Existing records stay as they are.
    """
    location, created = migrate_store(common.home)
    summary = f"created {', '.join(created)}" if created else "nothing was missing"
    common.out.result({"database": location, "created": created}, Text(f"{location}: {summary}"))
