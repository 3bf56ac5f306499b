"""Looking at every picture of a source once: its SHA-256, and whether it can be decoded.

What was found for a file is remembered in the cache folder together with the file's size, times and inode, so that
opening a large folder again only lists it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.digest import digest, digest_bytes
from clerestory.core.errors import UploadError
from clerestory.core.progress import Progress
from clerestory.data.cache import appearing, cache_folder
from clerestory.data.images import check_image

VERSION = 1
LARGEST_FILE = 256 * 2**20
BATCH = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What looking at a picture told: its SHA-256, and why it cannot be used (empty when it can)."""

    sha256: str
    problem: str


def look(content: bytes) -> Seen:
    """Look at encoded bytes."""
    try:
        check_image(content)
    except UploadError as error:
        return Seen(digest_bytes(content), error.message)
    return Seen(digest_bytes(content), "")


def look_at_files(root: Path, files: Iterable[str], progress: Progress) -> dict[str, Seen]:
    """Look at files below ``root`` by relative path; missing files are missing in the answer."""
    names = sorted(set(files))
    memo_path = cache_folder() / "inspected" / f"{digest(str(root.resolve()))[:24]}.json"
    memo = _read_memo(memo_path)
    answer: dict[str, Seen] = {}
    stamps = {name: stamp for name in names if (stamp := _stamp(root / name))}
    for name, stamp in stamps.items():
        known = memo.get(name)
        if known is not None and known[:-2] == stamp:
            answer[name] = Seen(str(known[-2]), str(known[-1]))
    missing = [name for name in stamps if name not in answer]
    if not missing:
        return answer
    with progress.task("Looking at pictures", len(missing)) as task, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            answer.update(zip(batch, threads.map(lambda name: _look_at_file(root / name), batch), strict=True))
            task.advance(len(batch))
    memo = {name: [*stamps[name], seen.sha256, seen.problem] for name, seen in answer.items()}
    with appearing(memo_path) as path:
        path.write_text(json.dumps({"version": VERSION, "files": memo}), encoding="utf-8")
    return answer


def _look_at_file(path: Path) -> Seen:
    try:
        if path.stat().st_size > LARGEST_FILE:
            return Seen("", "the file is larger than 256 MiB")
        return look(path.read_bytes())
    except OSError as error:
        return Seen("", f"the file cannot be read ({error.strerror})")


def _stamp(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] if path.is_file() else None


def _read_memo(path: Path) -> dict[str, list[int | str]]:
    try:
        memo = json.loads(path.read_text(encoding="utf-8"))
        return dict(memo["files"]) if memo["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
