"""Pair the rows of two evaluations: the same questions answered by two models.

A question is the same where task, split, operation, condition, severity, sample and query are. The sample of a
text→image row is an answer (the image whose rank it is) and not a part of the question. Where one question was asked
several times, the first is paired with the first, the second with the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Facts
from clerestory.core.errors import InputError
from clerestory.core.evidence import Recipe
from clerestory.core.rows import ANY, MIXED, QUESTION_COLUMNS, TEXT_COLUMNS, TaskName
from clerestory.stats.aggregate import Rows
from clerestory.stats.paired import Floats, Ints, match_rows

ANSWERED_BY_SAMPLE = (TaskName.TEXT_TO_IMAGE,)


@dataclass(frozen=True)
class PairedRows:
    """The places of the rows of the same questions in two tables.

    Attributes:
        a: (N,) places in the first table.
        b: (N,) places in the second.
        only_a, only_b: numbers of questions that only one of them has.
    """

    a: Ints
    b: Ints
    only_a: int
    only_b: int


def join(a: Rows, b: Rows, where: Mapping[str, str] | None = None) -> PairedRows:
    """Pair the rows of two tables, in the order of the first; only rows with the values of ``where`` (``*``: any).

    Raises:
        InputError: they have no question in common.
    """
    mine, theirs = _chosen(a, where or {}), _chosen(b, where or {})
    places_a, places_b = match_rows(_keys(a, mine), _keys(b, theirs))
    n = len(places_a)
    return PairedRows(mine[places_a], theirs[places_b], len(mine) - n, len(theirs) - n)


def scores(rows: Rows, recipe: Recipe, places: Ints) -> Floats:
    """The score of each row in a mean: the cell itself, or for ``share_at_most`` 1 or 0; NaN where unscored.

    Raises:
        InputError: the statistic is not a mean over rows, so it cannot be compared pair by pair.
    """
    if recipe.statistic not in ("mean", "share_at_most") or recipe.column not in rows:
        raise InputError(
            f"a {recipe.statistic} of {recipe.column} cannot be compared sample by sample",
            "compare a mean or a share, such as recall@10",
        )
    values = np.asarray(rows[recipe.column])[places].astype(np.float64)
    if recipe.statistic == "mean":
        return values
    return np.where(np.isnan(values), np.nan, (values <= recipe.parameter).astype(np.float64))


def clusters(rows: Rows, column: str, places: Ints) -> Ints:
    """The cluster number of each row; every row is its own cluster where the table has no such column."""
    if not column or column not in rows:
        return np.arange(len(places))
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(v, len(numbers)) for v in rows[column][places].tolist()], dtype=np.int64)


def groups_of(rows: Rows) -> list[str]:
    """The names of the columns that are groups of the data, such as ``style``."""
    return sorted(name for name, cells in rows.items() if name not in TEXT_COLUMNS and cells.dtype.kind == "O")


def group_values(rows: Rows, column: str, places: Ints) -> list[str]:
    """The values of a group among some rows, sorted; rows about several values have none."""
    return sorted(set(rows[column][places].tolist()) - {"", MIXED})


def different_candidates(a: Facts, b: Facts, task: str, split: str) -> str:
    """Why ranks of one task cannot be compared; empty when both were among equally many candidates.

    Args:
        a: the facts of one evaluation.
        b: those of the other.
        task: of the ranks.
        split: of the ranks.
    """
    key = f"candidates.{task}.{split}"
    if a.get(key) == b.get(key):
        return ""
    first, second = (f"{facts.integer(key):,}" if key in facts else "unknown" for facts in (a, b))
    return f"the numbers of candidates differ: {first} for one model, {second} for the other"


def _chosen(rows: Rows, where: Mapping[str, str]) -> Ints:
    keep = np.ones(len(next(iter(rows.values()), ())), dtype=bool)
    for name, value in where.items():
        cells: NDArray[Any] = rows[name] if name in rows else np.full(len(keep), "", dtype=object)
        keep &= np.asarray(cells != "") if value == ANY else np.asarray(cells == value)
    return np.flatnonzero(keep)


def _keys(rows: Rows, places: Ints) -> list[tuple[Any, ...]]:
    """The question of each row, with its repetition number at the end."""
    none = [""] * len(places)
    columns = [rows[name][places].tolist() if name in rows else none for name in QUESTION_COLUMNS]
    seen: dict[tuple[Any, ...], int] = {}
    keys = []
    for cells in zip(*columns, strict=True):
        question = (*cells[:5], "", cells[6]) if cells[0] in ANSWERED_BY_SAMPLE else cells
        again = seen[question] = seen.get(question, -1) + 1
        keys.append((*question, again))
    return keys
