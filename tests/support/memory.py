"""The memory of this process; Linux only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def memory(field: str) -> float:
    """``VmRSS``, the resident memory of this process, or ``VmHWM``, its peak, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024 / 1e6


def peak_of(use: Callable[[Path], object], file: Path) -> float:
    """The peak of the memory while a file is used, in MB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    use(file)
    return memory("VmHWM")
