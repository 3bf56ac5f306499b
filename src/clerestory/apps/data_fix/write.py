"""A new version of a dataset on the disk: whole or not at all, and begun again after a kill at any moment.

Everything is written into a hidden folder beside the target and renamed when it is complete. What a killed process left
is removed by the next one; a version that it completed without recording it is found to be complete, and used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clerestory.core.digest import digest, digest_file
from clerestory.core.errors import ClerestoryError, InputError
from clerestory.core.files import exclusive_lock, sync_folder, translate_disk_errors
from clerestory.core.outputs import CHOOSE_FOLDER, check_output, check_output_folder
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.data.image_folder import TABLE, as_image_folder, write_image_folder
from clerestory.data.parquet import read_sidecar, sidecar_path, write_dataset

SUFFIX = ".parquet"
_UNFINISHED, _REPLACED = "fixing-", "replaced-"


def is_parquet(target: Path) -> bool:
    """Whether a version is written as one Parquet file, by the name of the target; else as a folder of images."""
    return target.suffix.lower() == SUFFIX


def as_written(data: Dataset, target: Path) -> Dataset:
    """The dataset as the target will open: a folder names the file of each image."""
    return data if is_parquet(target) else as_image_folder(data)


def check_target(target: Path, parent: Path | None, force: bool, is_own: bool) -> None:
    """Check that a version can be written, before the work; its present content is compared later.

    Args:
        target: a Parquet file or a folder.
        parent: the folder or the file of the parent; None if it is neither.
        force: its present content may be replaced.
        is_own: whether an earlier fix wrote it.

    Raises:
        InputError: the target lies in the data itself, or cannot be written, or is a folder of someone else's.
    """
    resolved = target.absolute().resolve()
    if parent is not None and resolved.is_relative_to(parent):
        raise InputError(f"{target} lies in the data that is fixed", "name a place outside of it with --out")
    if is_parquet(target):
        check_output(target, force=True)
        return
    try:
        check_output_folder(target)
    except InputError as error:
        is_other = not target.is_dir() or not (target / TABLE).is_file() or (force and not is_own)
        if not target.parent.is_dir() or is_other:
            raise InputError(
                error.message, "name a new folder with --out; --force replaces only earlier fixes"
            ) from None


def write_version(data: Dataset, target: Path, locks: Path, force: bool = False, progress: Progress = QUIET) -> bool:
    """Write a version, unless exactly this one is there already.

    Args:
        data: as the target will open it (``as_written``).
        target: a Parquet file or a folder, after ``check_target``.
        locks: a folder for the lock that keeps a second process from the same target.
        force: replace another version that is there.
        progress: reports the images.

    Returns:
        Whether it was written.

    Raises:
        InputError: something else is there, or the disk is full.
        Conflict: another process is writing the same target.
    """
    target = target.absolute()
    lock = locks / f"fix-{digest(str(target.resolve()))[:16]}.lock"
    with exclusive_lock(lock, f"a fix that writes {target}"), translate_disk_errors(target.parent, CHOOSE_FOLDER):
        _remove(target, _UNFINISHED)
        if _is_there(data, target):
            return False
        if not force and _is_taken(data, target):
            raise InputError(f"{target} already exists", "name another place with --out, or replace it with --force")
        with _unfinished(target) as temporary:
            if is_parquet(target):
                write_dataset(data, temporary / target.name, progress=progress)
                # The sidecar first: a Parquet file without one would not be recognised as complete.
                sidecar_path(temporary / target.name).replace(sidecar_path(target))
                (temporary / target.name).replace(target)
            else:
                content = temporary / "content"
                content.mkdir()
                write_image_folder(data, content, progress)
                _sync(content)
                if target.exists():
                    target.replace(target.with_name(f".{target.name}.{_REPLACED}{os.getpid()}"))
                content.replace(target)
            sync_folder(target.parent)
        _remove(target, _REPLACED)
    return True


def _is_there(data: Dataset, target: Path) -> bool:
    """Whether the target is exactly this version."""
    if is_parquet(target):
        sidecar = read_sidecar(target)
        if sidecar is None or sidecar.digest != data.digest or not target.is_file():
            return False
        return digest_file(target) == sidecar.sha256
    if not (target / TABLE).is_file():
        return False
    try:
        return open_data(target).digest == data.digest
    except ClerestoryError:
        return False


def _is_taken(data: Dataset, target: Path) -> bool:
    """Whether something is there that this process may not replace; a sidecar alone is left from a killed one."""
    if not is_parquet(target):
        return target.exists() and any(target.iterdir())
    sidecar = read_sidecar(target)
    is_left = sidecar is not None and sidecar.digest == data.digest
    return os.path.lexists(target) or (os.path.lexists(sidecar_path(target)) and not is_left)


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.{_UNFINISHED}"))
    temporary.chmod(0o755)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove(target: Path, what: str) -> None:
    """Remove what killed processes left beside the target; the lock says that none of them is alive."""
    prefix = f".{target.name}.{what}"
    for path in target.parent.iterdir():
        if path.name.startswith(prefix):
            shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
