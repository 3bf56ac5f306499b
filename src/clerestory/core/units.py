"""Amounts of time and memory as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``0.42 s``, ``8.3 s``, ``42 s``, ``4 min 30 s``, ``3 h 12 min``."""
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    total = round(seconds)
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{amount} {unit}" for amount, unit in parts if amount)


def memory(mebibytes: float) -> str:
    """``312 MiB``, ``1.4 GiB``."""
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"


def plural(items: int, one: str, many: str = "") -> str:
    """``1 image``, ``12,345 images``; ``many`` where an s is not enough, such as ``"file matches", "files match"``."""
    return f"{items:,} {one if items == 1 else many or one + 's'}"
