"""One pass over every image of a source: its SHA-256, and whether it can be decoded.

The results for files are cached together with each file's size, times and inode, so that opening a large folder again
only lists it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL

from clerestory.core.codec import decode, encode
from clerestory.core.digest import digest, digest_bytes
from clerestory.core.errors import ConfigError, UploadError
from clerestory.core.files import atomic_path, cache_folder, read_problem
from clerestory.core.progress import Progress
from clerestory.data.findings import UnreadableImage
from clerestory.data.images import check_image

VERSION = f"3, Pillow {PIL.__version__}"  # what can be decoded depends on the decoder, too
MAX_FILE_BYTES = 256 * 2**20
BATCH_SIZE = 64
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_REASONS = {
    413: UnreadableImage.TOO_MANY_PIXELS,
    415: UnreadableImage.UNSUPPORTED_FORMAT,
    503: UnreadableImage.FILE_UNREADABLE,
}


@dataclass(frozen=True, slots=True)
class ImageScan:
    """The result of scanning one image.

    Attributes:
        sha256: of its encoded bytes.
        reason: why it cannot be used; None if it can.
        problem: the reason as a sentence; empty if it can be used.
        fix: what to do about it; empty for the usual remedy.
    """

    sha256: str
    reason: UnreadableImage | None = None
    problem: str = ""
    fix: str = ""

    @property
    def is_lasting(self) -> bool:
        """Whether the same bytes give the same result again; an I/O error or a lack of memory may pass."""
        return self.reason is not UnreadableImage.FILE_UNREADABLE


def scan_image(content: bytes) -> ImageScan:
    """Scan encoded bytes."""
    try:
        check_image(content)
    except UploadError as error:
        reason = _REASONS.get(error.status, UnreadableImage.DAMAGED)
        return ImageScan(digest_bytes(content), reason, error.message, error.fix)
    return ImageScan(digest_bytes(content))


def scan_files(root: Path, files: Iterable[str], progress: Progress) -> dict[str, ImageScan]:
    """Scan files below ``root``, by relative path; missing files are absent from the result.

    Only lasting results are cached: a file on a drive that was away is read again when it is back.
    """
    names = sorted(set(files))
    cache_path = cache_folder() / "image_scans" / f"{digest(str(root.resolve()))[:24]}.json"
    cached = _read_cache(cache_path)
    scans: dict[str, ImageScan] = {}
    stamps: dict[str, list[int]] = {}
    for name in names:
        try:
            stamp = _stamp(root / name)
        except OSError as error:
            scans[name] = _unreadable(error)
            continue
        if stamp:
            stamps[name] = stamp
            known = cached.get(name)
            if known is not None and known[0] == stamp:
                scans[name] = known[1]
    missing = [name for name in stamps if name not in scans]
    if not missing:
        return scans
    with progress.task("Checking images", len(missing)) as task, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(missing), BATCH_SIZE):
            batch = missing[start : start + BATCH_SIZE]
            scans.update(zip(batch, threads.map(lambda name: _scan_file(root / name), batch), strict=True))
            task.advance(len(batch))
    lasting = {name: scan for name, scan in scans.items() if name in stamps and scan.is_lasting}
    # Also those of other tables beside the same images, which would have to be scanned again otherwise.
    others = {name: [stamp, encode(scan)] for name, (stamp, scan) in cached.items() if name not in scans}
    entries = others | {name: [stamps[name], encode(scan)] for name, scan in lasting.items()}
    # Without the cache the next opening takes longer; a full disk does not prevent this one.
    with suppress(OSError), atomic_path(cache_path) as path:
        path.write_text(json.dumps({"version": VERSION, "files": entries}), encoding="utf-8")
    return scans


def file_too_large() -> ImageScan:
    """The scan of a file of more than ``MAX_FILE_BYTES``, which is not read."""
    return ImageScan("", UnreadableImage.FILE_TOO_LARGE, f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")


def _scan_file(path: Path) -> ImageScan:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return file_too_large()
        return scan_image(path.read_bytes())
    except OSError as error:
        return _unreadable(error)


def _unreadable(error: OSError) -> ImageScan:
    problem = f"the file cannot be read ({read_problem(error)})"
    return ImageScan(
        "", UnreadableImage.FILE_UNREADABLE, problem, "check the drive and the permissions, then try again"
    )


def _stamp(path: Path) -> list[int] | None:
    """What changes when a file changes; None if there is no such file.

    Raises:
        OSError: whether there is such a file cannot be found out.
    """
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return None
        raise
    except ValueError:  # a zero byte in the name
        return None
    is_file = stat.S_ISREG(status.st_mode)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino] if is_file else None


def _read_cache(path: Path) -> dict[str, tuple[list[int], ImageScan]]:
    try:
        cached: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if cached["version"] != VERSION:
            return {}
        return {name: (stamp, decode(ImageScan, scan)) for name, (stamp, scan) in cached["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return {}
