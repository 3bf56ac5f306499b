"""The training log: one JSON object per line."""

from __future__ import annotations

import json
import math
from pathlib import Path


class JsonlLog:
    """Appends lines; a resumed run truncates it to its last checkpoint.

    Args:
        path: a ``.jsonl`` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **values: float | str) -> None:
        """Append one line; numbers are rounded to 6 significant digits, infinite and NaN become null."""
        line = {key: _rounded(value) for key, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def truncate(self, step: int) -> None:
        """Remove the lines after ``step``."""
        if not self.path.is_file():
            return
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] > step:
                    break
            except (json.JSONDecodeError, KeyError):
                break  # a line that a kill left incomplete
            lines.append(line + "\n")
        self.path.write_text("".join(lines), encoding="utf-8")


def _rounded(value: float | str) -> float | int | str | None:
    if isinstance(value, int | str):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
