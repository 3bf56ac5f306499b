"""``clerestory store``: copies the whole store, and prepares a database for it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from rich.table import Table
from rich.text import Text

from clerestory.cli.output import PLAIN, Common
from clerestory.core.units import plural
from clerestory.store import copy_store, migrate_store, open_store


def copy_(folder: Path, /, *, database: str = "", common: Common = PLAIN) -> int:
    """Copy the whole store into a new folder, and its records into another database; exit code 1 when it is damaged.

    The store itself is only read and stays as it is. An interrupted copy goes on when it is run again.

    Args:
        folder: A new folder for the files of the copy.
        database: An empty database for its records, such as postgresql://user@host/name (default: a SQLite file in
            the new folder).
    """
    copied = copy_store(open_store(common.home), folder, database or None, common.out)
    table = Table(box=None, show_header=False)
    for finding in copied.findings:
        table.add_row(Text("✗", "red"), finding.code, Text(finding.where), Text(finding.message))
    files, total = plural(copied.files, "file"), sum(copied.records.values())
    problems = (
        f"{plural(len(copied.findings), 'problem')} found" if copied.findings else "every digest and signature verified"
    )
    common.out.result(
        copied,
        Text(f"copied {files} to {copied.folder} and {plural(total, 'record')} to {copied.database}"),
        *([table] if copied.findings else []),
        Text(problems),
    )
    setting = ""
    if database:
        setting = f"CLERESTORY_DB={shlex.quote(copied.database)} "
    elif "CLERESTORY_DB" in os.environ:
        setting = "env -u CLERESTORY_DB "
    if "***" not in copied.database:  # a command without the password would not run
        common.out.next(f"{setting}clerestory release list --home {shlex.quote(copied.folder)}")
    return 1 if copied.findings else 0


def migrate_(*, common: Common = PLAIN) -> None:
    """Create the tables and triggers that the database lacks; run it as the owner of the database.

    The database is the one that CLERESTORY_DB names, else that of the folder. Existing records stay as they are.
    """
    location, created = migrate_store(common.home)
    summary = f"created {', '.join(created)}" if created else "nothing was missing"
    common.out.result({"database": location, "created": created}, Text(f"{location}: {summary}"))
