"""Building, joining and selecting per-sample rows; ``core/rows.py`` defines their columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.rows import ANY, GROUP_COLUMNS, MIXED, NUMBER_COLUMNS, TEXT_COLUMNS, Condition, Unscored
from clerestory.core.sample import Sample
from clerestory.core.text import visible
from clerestory.stats.aggregate import Rows

LICENCE = "licence"
MAX_EXAMPLES = 3
MAX_REPLY = 80  # characters
BATCH_COLUMN = "batch"  # of timed and priced requests: how many images or texts a request has


class MissingScore(NamedTuple):
    """Why a question has no score: the reason, and what an endpoint said."""

    reason: Unscored
    detail: str = ""

    @property
    def cells(self) -> dict[str, str]:
        """The columns of a row that carry it."""
        return {"unscored": self.reason, "unscored_detail": self.detail}


class RowBuilder:
    """Collects one row per question, with the same columns for every task; cells that a task does not fill are empty.

    Args:
        groups: the names of the samples' groups; each becomes a column (``group_<name>`` where the name is taken).
    """

    def __init__(self, groups: Iterable[str]) -> None:
        taken = {*TEXT_COLUMNS, *NUMBER_COLUMNS}
        self.groups = {name: f"group_{name}" if name in taken else name for name in sorted({*GROUP_COLUMNS, *groups})}
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, samples: Iterable[Sample] = (), **cells: str | float) -> None:
        """Append a row about some samples; a group on which they disagree is ``mixed``."""
        row: dict[str, Any] = {"condition": Condition.CLEAN, **cells}
        samples = list(samples)
        for name, column in self.groups.items():
            values = {group_of(sample, name) for sample in samples}
            row[column] = MIXED if len(values) > 1 else next(iter(values), "")
        self._rows.append(row)

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """The rows as columns: text as objects, numbers as float64 with NaN where empty."""
        texts = (*TEXT_COLUMNS, *self.groups.values())
        columns: dict[str, NDArray[Any]] = {
            name: np.array([str(row.get(name, "")) for row in self._rows], dtype=object) for name in texts
        }
        for name in NUMBER_COLUMNS:
            columns[name] = np.array([row.get(name, np.nan) for row in self._rows], dtype=np.float64)
        return columns


def quoted_examples(replies: Iterable[str]) -> str:
    """`` (such as “…”, “…”)``: the first different replies, shortened; empty without any."""
    shown = []
    for reply in dict.fromkeys(" ".join(reply.split()) for reply in replies):
        text = visible(reply)
        if text:
            # The end of a reply tells more than its middle: that is where an answer, or the cut, is.
            shown.append(
                f"“{text}”" if len(text) <= MAX_REPLY else f"“{text[: MAX_REPLY // 2]} … {text[-MAX_REPLY // 2 :]}”"
            )
    return f" (such as {', '.join(shown[:MAX_EXAMPLES])})" if shown else ""


def group_of(sample: Sample, name: str) -> str:
    """A sample's value of a group, empty when it has none; its licence counts as a group."""
    return sample.groups.get(name, "") or (sample.licence if name == LICENCE else "")


def join_rows(tables: Iterable[Rows]) -> dict[str, NDArray[Any]]:
    """The rows of several tables; a column that one of them lacks is empty there."""
    tables = [table for table in tables if len(next(iter(table.values()), ()))]
    joined: dict[str, NDArray[Any]] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        first = next(table[name] for table in tables if name in table)
        empty = np.nan if first.dtype.kind == "f" else ""
        columns = [table[name] if name in table else _filled(table, empty, first.dtype) for table in tables]
        joined[name] = np.concatenate(columns)
    return joined


def rows_matching(rows: Rows, where: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which rows have these values in these columns; ``*`` is any value but the empty one."""
    keep = np.ones(len(rows["task"]), dtype=bool)
    for name, value in where.items():
        keep &= np.asarray(rows[name] != "") if value == ANY else np.asarray(rows[name] == value)
    return keep


def has_scores(rows: Rows, where: Mapping[str, str], column: str) -> bool:
    """Whether any row of a slice has a number in a column."""
    return bool((rows_matching(rows, where) & ~np.isnan(rows[column])).any())


def distinct_slices(rows: Rows, columns: tuple[str, str], *tasks: str) -> Iterator[dict[str, str]]:
    """The distinct values of two columns among the rows of some tasks, in the order of their first appearance."""
    pairs = zip(rows[columns[0]].tolist(), rows[columns[1]].tolist(), strict=True)
    for task, other in dict.fromkeys(pairs):
        if task in tasks:
            yield {columns[0]: task, columns[1]: other}


def _filled(table: Rows, value: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.full(len(next(iter(table.values()))), value, dtype=dtype)
