"""Writing files so that a kill at any moment leaves the old state or the new one, never half of either.

The only implementation of atomic writes and of locks between processes; the store, the data sources and the stages
use it.
"""

from __future__ import annotations

import fcntl
import os
import platform
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from clerestory.core.digest import files_below
from clerestory.core.errors import Conflict, InputError, NotWritable

LEFTOVER_SECONDS = 24 * 3600
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")  # files that can run code when they are read


def cache_folder() -> Path:
    """Where derived files are stored: ``CLERESTORY_CACHE`` if it is set, else the user's cache folder."""
    folder = os.environ.get("CLERESTORY_CACHE") or platformdirs.user_cache_dir("clerestory")
    return Path(folder).expanduser()


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, so that they survive a power cut."""
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


def temporary_path(folder: Path, name: str = "") -> Path:
    """A path in ``folder`` that no other process uses; hidden and starting with ``name`` if one is given."""
    unique = f"{os.getpid()}-{secrets.token_hex(8)}"
    return folder / (f".{name}.{unique}" if name else unique)


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Create a file and flush its bytes to the disk; the caller renames it into place."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def atomic_path(target: Path, temporary_folder: Path | None = None) -> Iterator[Path]:
    """A temporary path that becomes ``target`` by atomic rename when the block ends without an exception.

    Args:
        target: where the file appears; its folder is created.
        temporary_folder: folder of the unfinished file, on the same file system; by default that of ``target``.
    """
    make_folder(target.parent)
    hidden = target.name if temporary_folder is None else ""
    temporary = temporary_path(temporary_folder or target.parent, hidden)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def write_atomic(target: Path, content: bytes, temporary_folder: Path | None = None, mode: int = 0o644) -> None:
    """Write a file that appears whole or not at all.

    Args:
        target: where the file appears; its folder is created.
        content: its bytes.
        temporary_folder: folder of the unfinished file, on the same file system; by default that of ``target``.
        mode: permissions of the new file.
    """
    with atomic_path(target, temporary_folder) as temporary:
        write_file(temporary, content, mode)


def copy_folder(source: Path, target: Path, names: Collection[str] | None = None) -> None:
    """Copy every file below ``source``, or those with these relative paths, and flush all of it to the disk.

    Links are followed.
    """
    make_folder(target)
    for path in files_below(source, names):
        copy = target / path.relative_to(source)
        make_folder(copy.parent)
        with path.open("rb") as reader, copy.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 2**20)
            writer.flush()
            os.fsync(writer.fileno())
        sync_folder(copy.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder more than a day ago."""
    oldest = time.time() - LEFTOVER_SECONDS
    for path in folder.iterdir():
        try:
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:  # another process removed it first
            continue


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system releases it when the process dies."""
    make_folder(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that a second process (or thread) is refused, instead of waiting for it.

    The file contains the number of the process and the name of its machine; it is removed at the end, and the system
    releases the lock when the process dies.

    Args:
        path: of the lock file.
        what: the thing that only one process may do, as the subject of a sentence: "the same training".

    Raises:
        Conflict: another process holds the lock; names it.
    """
    make_folder(path.parent)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 1000).decode(errors="replace").split()
            os.close(handle)
            raise _conflict(what, holder) from None
        if _is_still_at(handle, path):
            break
        os.close(handle)  # its last holder removed the file between the two calls
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()} {platform.node()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _is_still_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _conflict(what: str, holder: list[str]) -> Conflict:
    """The error for a lock that the process named by ``holder`` holds: its number, then its machine."""
    where = f"process {holder[0]}" if holder else "another process"
    if len(holder) > 1 and holder[1] != platform.node():
        where += f" on {holder[1]}"
    return Conflict(
        f"{what} is already running in {where}", "wait until it ends, or stop it and run this command again"
    )


@contextmanager
def translate_disk_errors(
    folder: Path, fix: str = "choose another folder with --home, or free space and allow writing there"
) -> Iterator[None]:
    """Turn an ``OSError`` of a block that writes below ``folder`` into one sentence.

    Raises:
        NotWritable: names the path and the system's reason.
    """
    try:
        yield
    except OSError as error:
        raise NotWritable(f"{error.filename or folder} cannot be written: {error.strerror or error}", fix) from error


def expand_user(path: Path | str) -> Path:
    """The path with the home of a user instead of ``~`` or ``~name``.

    Raises:
        InputError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        name = Path(path).parts[0]
        raise InputError(f"{name} in {path} is not the home of a user", f"write ./{path}, or the full path") from error


def file_identity(path: Path | None) -> tuple[int, int] | None:
    """The file that a path leads to: equal for a file, every link to it and every hard link; None without a file."""
    try:
        status = path.stat() if path is not None else None
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    return (status.st_dev, status.st_ino) if status is not None else None


def read_problem(error: OSError) -> str:
    """Why a file cannot be read, in words that are not those of one operating system."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a folder"
        case PermissionError():
            return "its permissions do not allow it"
        case _:
            return error.strerror or str(error)


def why_unwritable(folder: Path) -> str:
    """The system's reason why a file cannot be written in a folder, found by writing one; empty if it can."""
    probe = temporary_path(folder, "probe")
    try:
        write_file(probe, bytes(2**16))
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""
