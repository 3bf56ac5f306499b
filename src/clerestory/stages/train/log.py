"""The training log: one JSON object a line."""

from __future__ import annotations

import json
import math
from pathlib import Path


class Log:
    """Appends lines; after a kill, the lines beyond the last checkpoint are taken back.

    Args:
        path: a ``.jsonl`` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **values: float | str) -> None:
        """Append one line; numbers are rounded to 6 significant digits, what is not finite becomes null."""
        plain = {key: _short(value) for key, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")

    def cut(self, step: int) -> None:
        """Keep the lines up to ``step``."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] > step:
                    break
            except (json.JSONDecodeError, KeyError):
                break  # a line that a kill left half written
            kept.append(line + "\n")
        self.path.write_text("".join(kept), encoding="utf-8")


def _short(value: float | str) -> float | int | str | None:
    if isinstance(value, int | str):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
