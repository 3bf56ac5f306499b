"""Where derived files live, and how a file appears there: whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``CLERESTORY_CACHE`` where it is set, else the user's cache folder for Clerestory."""
    place = os.environ.get("CLERESTORY_CACHE") or platformdirs.user_cache_dir("clerestory")
    return Path(place).expanduser()


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes ``path`` by atomic rename when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; other processes wait. Released by the system if this one dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
