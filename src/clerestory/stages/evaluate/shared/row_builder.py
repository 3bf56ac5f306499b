"""The per-sample rows while they are being written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.sample import Sample
from clerestory.stats.aggregate import Rows

TEXTS = (
    "task",
    "split",
    "operation",
    "sample",
    "concept",
    "query",
    "target",
    "answer",
    "unscored",
    "condition",
    "severity",
    "image",
    "prompt",
)
NUMBERS = (
    "rank",
    "relevant",
    "precision",
    "score",
    "clean_score",
    "reference",
    "chance",
    "all_orders",
    "confidence",
    "nll",
    "brier",
    "scaled_confidence",
    "scaled_nll",
    "scaled_brier",
    "chrf",
    "chrf_best",
    "cider",
    "clip_score",
    "in_distribution",
    "ood_msp",
    "ood_max_logit",
    "ood_energy",
    "ood_mahalanobis",
    "ood_knn",
    "ood_mcm",
    "ms",
    "tokens_in",
    "tokens_out",
    "cost",
    "amount",
)
GROUPS = ("style", "gender", "skin_tone", "emoji_group", "concept_split", "licence")
MIXED = "mixed"
CLEAN = "clean"


class RowBuilder:
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
        row: dict[str, Any] = {"condition": CLEAN, **cells}
        about = list(samples)
        for name, column in self.groups.items():
            values = {group_of(sample, name) for sample in about}
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


def group_of(sample: Sample, name: str) -> str:
    """A sample's value of a group, empty when it has none; its licence counts as a group."""
    return sample.groups.get(name, "") or (sample.licence if name == "licence" else "")


def join(tables: Iterable[Rows]) -> dict[str, NDArray[Any]]:
    """Several tables below one another; a column that one of them lacks is empty there."""
    parts = [table for table in tables if len(next(iter(table.values()), ()))]
    names = dict.fromkeys(name for table in parts for name in table)
    joined: dict[str, NDArray[Any]] = {}
    for name in names:
        sample = next(table[name] for table in parts if name in table)
        number = sample.dtype.kind == "f"
        joined[name] = np.concatenate([table[name] if name in table else _empty(table, number) for table in parts])
    return joined


def _empty(table: Rows, number: bool) -> NDArray[Any]:
    count = len(next(iter(table.values())))
    return np.full(count, np.nan) if number else np.full(count, "", dtype=object)
