"""The per-sample rows while they are being written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.sample import Sample

TEXTS = ("task", "split", "operation", "sample", "concept", "query", "answer", "unscored")
NUMBERS = ("rank", "relevant", "chrf", "chrf_best", "ms")
GROUPS = ("style", "gender", "emoji_group", "concept_split")
MIXED = "mixed"


class Table:
    """One row per query, with the same columns for every task; a cell that a task does not fill stays empty.

    Args:
        groups: the names of the samples' groups; each becomes a column (``group_<name>`` where the name is taken).
    """

    def __init__(self, groups: Iterable[str]) -> None:
        taken = set(TEXTS) | set(NUMBERS)
        self.groups = {name: f"group_{name}" if name in taken else name for name in sorted({*GROUPS, *groups})}
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, samples: Iterable[Sample] = (), **cells: str | float) -> None:
        """Append a row; a group that the samples it is about do not agree on is ``mixed``."""
        row: dict[str, Any] = dict(cells)
        about = list(samples)
        for name, column in self.groups.items():
            values = {sample.groups.get(name, "") for sample in about}
            row[column] = MIXED if len(values) > 1 else next(iter(values), "")
        self._rows.append(row)

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """The table as columns: text as objects, numbers as float64 with NaN where empty."""
        texts = (*TEXTS, *self.groups.values())
        columns: dict[str, NDArray[Any]] = {
            name: np.array([row.get(name, "") for row in self._rows], dtype=object) for name in texts
        }
        for name in NUMBERS:
            columns[name] = np.array([row.get(name, np.nan) for row in self._rows], dtype=np.float64)
        return columns
