"""Writing files so that a kill at any moment leaves the old state or the new one, never half of either."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clerestory.core.errors import InputError

LEFTOVER_SECONDS = 24 * 3600


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each one durable before the next."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def temporary_path(workplace: Path) -> Path:
    """A name in ``workplace`` that no other process uses."""
    return workplace / f"{os.getpid()}-{secrets.token_hex(8)}"


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Create a file and bring its bytes to the disk; the caller renames it into place."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(target: Path, content: bytes, workplace: Path, mode: int = 0o644) -> None:
    """Write ``target`` so that it appears whole or not at all.

    Args:
        target: where the file appears; its folder must exist.
        content: its bytes.
        workplace: a folder on the same file system for the file while it is unfinished.
        mode: permissions of the new file.
    """
    temporary = temporary_path(workplace)
    try:
        write_file(temporary, content, mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def copy_folder(source: Path, target: Path) -> None:
    """Copy every file below ``source`` (links are followed) and bring all of it to the disk."""
    make_folder(target)
    for path in sorted(source.rglob("*")):
        if not path.is_file():
            continue
        copy = target / path.relative_to(source)
        make_folder(copy.parent)
        with path.open("rb") as reader, copy.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 2**20)
            writer.flush()
            os.fsync(writer.fileno())
        sync_folder(copy.parent)


def sweep(workplace: Path) -> None:
    """Remove what killed processes left unfinished more than a day ago."""
    oldest = time.time() - LEFTOVER_SECONDS
    for path in workplace.iterdir():
        try:
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:  # another process swept it first
            continue


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system lets go of it when the holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def disk_errors_told(place: Path) -> Iterator[None]:
    """Turn an ``OSError`` of a block that writes below ``place`` into one sentence.

    Raises:
        InputError: names the path and what the system said.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename or place} cannot be written: {error.strerror or error}",
            "choose another folder with --home, or make room and allow writing there",
        ) from error
