"""Files and folders that a user names for a result: checked before the work, never overwritten unasked, never half.

What Clerestory keeps in its own folders (store, cache) is not an output; see ``clerestory.core.files``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clerestory.core.errors import InputError
from clerestory.core.files import sync_folder, translate_disk_errors, write_atomic

CHOOSE_FOLDER = "choose another folder, or free space and allow writing there"


def check_output(path: Path, force: bool = False) -> None:
    """Check that a file can be written, before the work whose result it gets.

    Args:
        path: of the file.
        force: an existing file may be replaced.

    Raises:
        InputError: its folder does not exist or is not writable, ``path`` is a folder, or the file exists.
    """
    _check_parent(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file", "name a file in it")
    if not force and os.path.lexists(path):
        raise InputError(f"{path} already exists", "name another file, or replace it with --force")


def write_output(path: Path, content: bytes, force: bool = False) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: as ``check_output``, or the disk is full.
    """
    check_output(path, force)
    with translate_disk_errors(path.parent, CHOOSE_FOLDER):
        write_atomic(path, content)


def check_output_folder(folder: Path) -> None:
    """Check that a new folder can be written, before the work whose result it gets.

    Raises:
        InputError: its parent does not exist or is not writable, or it is a file or a folder that is not empty.
    """
    _check_parent(folder)
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        problem = "is not empty" if folder.is_dir() else "is a file"
        raise InputError(f"{folder} already exists and {problem}", "name a new folder, or remove this one")


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends without an exception.

    Raises:
        InputError: as ``check_output_folder``, or the disk is full.
    """
    check_output_folder(folder)
    folder = folder.absolute()
    with translate_disk_errors(folder.parent, CHOOSE_FOLDER):
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                _sync(path)
            temporary.chmod(0o777 & ~_umask())
            temporary.replace(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_parent(path: Path) -> None:
    parent = path.parent
    if parent.exists() and not parent.is_dir():
        raise InputError(f"{parent} is a file, not a folder", "name a folder")
    if not parent.is_dir():
        raise InputError(f"the folder {parent} does not exist", f"create it with: mkdir -p {shlex.quote(str(parent))}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"nothing can be written to the folder {parent}", "choose another folder")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
