"""A store for commands whose result matters and not what they keep: where no home can be written, it is temporary."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from clerestory.cli.output import Common
from clerestory.core.errors import NotWritable
from clerestory.store import Store, open_store

MEMORY = "/dev/shm"  # a folder in memory, on Linux; elsewhere the temporary folder of the system


def open_store_or_temporary(common: Common) -> Store:
    """The store of a command; a temporary one, removed at its end, if its home is not there and cannot be made.

    One sentence says so. Only for commands that store nothing but what can be made again.

    Raises:
        NotWritable: no temporary folder can be written either, or the store has its database elsewhere.
    """
    try:
        return open_store(common.home)
    except NotWritable as error:
        if os.environ.get("CLERESTORY_DB") or (folder := _temporary_folder()) is None:
            raise
        common.out.write_line(
            f"notice: {error.message}, so the index is kept in memory and made again next time; to keep it, name a "
            "folder that can be written with --home"
        )
        return open_store(folder)


def _temporary_folder() -> Path | None:
    """A folder that is removed when the process ends; None if none can be made."""
    for parent in (MEMORY if Path(MEMORY).is_dir() else None, None):
        try:
            folder = tempfile.mkdtemp(prefix="clerestory-", dir=parent)
        except OSError:
            continue
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
    return None
