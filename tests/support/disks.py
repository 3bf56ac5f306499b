"""Disks that are full or read-only: a small tmpfs where the tests may mount one, limits of the process elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FULL = "No space left on device"
READ_ONLY = "Read-only file system"


@dataclass(frozen=True)
class SmallDisk:
    """A disk of a few megabytes, mounted at ``folder``."""

    folder: Path

    def fill(self) -> None:
        """Write until not a single byte fits any more."""
        with suppress(OSError), (self.folder / "filler").open("ab", buffering=0) as file:
            for size in (2**16, 512, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Remove what ``fill`` has written."""
        (self.folder / "filler").unlink()

    def make_read_only(self) -> None:
        """Mount it again, read-only; also for root."""
        _mount("-o", "remount,ro", str(self.folder))


@contextmanager
def small_disk(folder: Path, megabytes: int = 4) -> Iterator[SmallDisk]:
    """A tmpfs for a block; unmounted at its end, whatever happened."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@cache
def can_mount() -> bool:
    """Whether this process may mount a tmpfs (root with the capability to)."""
    if os.getuid() != 0:
        return False
    with suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True)
        return True
    return False


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
