"""From the rows of two examinations to pairs of scores, one for every question that both were asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import Undecided
from clerestory.core.evidence import Evidence
from clerestory.stats.aggregate import Rows
from clerestory.stats.paired import FEW_CLUSTERS, Floats, Ints
from clerestory.stats.pairing import MIXED, group_values, groups_of, join, other_pool

CLEAN, CORRUPTED, WORDS, BLIND = "clean", "corrupted", "words", "blind"
BLIND_CONDITIONS = ("blind", "shuffled_image", "majority")
TIMED = ("latency", "load", "throughput", "cost", "memory")
# With the scores of other tasks once more: what is said of the benchmarks, and the clean side of the corruptions.
ASIDE = ("trust", "corruption_base")
TOP, MOST_MIXED = 10, 0.1
Measure = Literal["accuracy", "recall@10", "chrf"]
COLUMNS: dict[Measure, str] = {"accuracy": "score", "recall@10": "rank", "chrf": "chrf"}


@dataclass(frozen=True)
class Pairs:
    """Both models on the same questions, as columns.

    Attributes:
        rows: the table that is kept: what was asked, the groups, and the scores ``a`` and ``b``, where both have one.
        measures: which measure the scores of a task and split are.
        groups: the columns that are groups of the data.
        notes: what could not be compared, and why.
        blocked: how many of these should have been comparable.
    """

    rows: dict[str, NDArray[Any]]
    measures: dict[tuple[str, str], Measure]
    groups: list[str]
    notes: list[str]
    blocked: int


def pair(a: Evidence, b: Evidence, rows_a: Rows, rows_b: Rows) -> Pairs:
    """Lay two examinations side by side.

    Timings are left out: they were taken at different times, which no pairing undoes. So are questions asked without
    the picture, where a higher score is no merit. Ranks among other numbers of answers are named and left out.

    Raises:
        Undecided: nothing is left to compare.
        InputError: the two have no question in common.
    """
    joined = join(rows_a, rows_b)
    tasks, splits = (rows_a[name][joined.a] for name in ("task", "split"))
    families = np.array(
        [family(c, s) for c, s in zip(_cells(rows_a, "condition", joined.a), _cells(rows_a, "severity", joined.a),
                                      strict=True)], dtype=object
    )  # fmt: skip
    scores_a, scores_b = np.full(len(tasks), np.nan), np.full(len(tasks), np.nan)
    measures: dict[tuple[str, str], Measure] = {}
    notes, blocked = [], 0
    for task, split in dict.fromkeys(zip(tasks.tolist(), splits.tolist(), strict=True)):
        if task in TIMED:
            notes.append(f"{task}: timings are not compared pair by pair, they were taken at different times")
            continue
        here = np.flatnonzero((tasks == task) & (splits == split) & (families != BLIND))
        measure = _measure(rows_a, joined.a[here])
        if task in ASIDE or measure is None:
            continue
        mine, theirs = (
            _scores(rows, places[here], measure) for rows, places in ((rows_a, joined.a), (rows_b, joined.b))
        )
        why = other_pool(a.facts, b.facts, task, split) if measure == "recall@10" else ""
        if why:
            notes.append(f"{task}, {split}: {why}, so their ranks are not the same question")
            blocked += 1
            continue
        scores_a[here], scores_b[here] = mine, theirs
        measures[task, split] = measure
    if joined.only_a or joined.only_b:
        notes.append(f"{joined.only_a:,} questions were asked of the first model only, {joined.only_b:,} of the second")
    if not measures:
        raise Undecided("the two have no task whose scores can be compared sample by sample" + _because(notes), "")
    kept = np.isfinite(scores_a) | np.isfinite(scores_b)
    one_only = np.isnan(scores_a) | np.isnan(scores_b)
    scores_a[one_only], scores_b[one_only] = np.nan, np.nan
    groups = groups_of(rows_a)
    table = _table(rows_a, rows_b, joined.a[kept], joined.b[kept], groups)
    table |= {"family": families[kept], "a": scores_a[kept], "b": scores_b[kept]}
    return Pairs(table, measures, groups, list(dict.fromkeys(notes)), blocked)


def family(condition: str, severity: str) -> str:
    """The family a condition belongs to: ``clean``, ``corrupted``, ``words`` or ``blind``."""
    if severity:
        return CORRUPTED
    if condition in ("", CLEAN):
        return CLEAN
    return BLIND if condition in BLIND_CONDITIONS else WORDS


def slices(pairs: Pairs) -> Iterator[tuple[str, str, str, str, str, Ints]]:
    """Task, split, family, group, value and places of everything to compare: first without groups, then by group.

    A group counts where it has two values or more and at most a tenth of the rows are about several of them. Values
    with fewer than 20 independent concepts are noted in ``pairs.notes`` and left out.
    """
    rows = pairs.rows
    whole = []
    for task, split in pairs.measures:
        for name in (CLEAN, CORRUPTED, WORDS):
            keep = (rows["task"] == task) & (rows["split"] == split) & (rows["family"] == name)
            keep &= np.isfinite(rows["a"]) & np.isfinite(rows["b"])
            if keep.any():
                whole.append((task, split, name, np.flatnonzero(keep)))
    for task, split, name, places in whole:
        yield task, split, name, "", "", places
    small: dict[str, set[str]] = {}
    for task, split, name, places in whole:
        for group in pairs.groups:
            members = _members(rows, group, places, small)
            if len(members) > 1:  # one alone is nearly the whole
                for value, chosen in members.items():
                    yield task, split, name, group, value, chosen
    for group, few in small.items():
        pairs.notes.append(f"{group}: fewer than {FEW_CLUSTERS} concepts somewhere for {', '.join(sorted(few))}")


def _members(rows: Rows, group: str, places: Ints, small: dict[str, set[str]]) -> dict[str, Ints]:
    """The places of every value of a group that has enough concepts; the others are added to ``small``."""
    cells = rows[group][places]
    values = group_values(rows, group, places)
    if len(values) < 2 or np.mean(cells == MIXED) > MOST_MIXED:
        return {}
    members = {}
    for value in values:
        chosen = places[cells == value]
        if len(set(rows["concept"][chosen].tolist())) < FEW_CLUSTERS:
            small.setdefault(group, set()).add(value)
        else:
            members[value] = chosen
    return members


def _measure(rows: Rows, places: Ints) -> Measure | None:
    """What tells how good most of these rows are, the same in all conditions; None where nothing does."""
    known = {
        measure: int(np.isfinite(np.asarray(rows[column])[places].astype(np.float64)).sum())
        for measure, column in COLUMNS.items()
        if column in rows
    }
    best = max(known, key=known.__getitem__, default=None)
    return best if best is not None and known[best] else None


def _scores(rows: Rows, places: Ints, measure: Measure) -> Floats:
    """The score of each row, higher is better; NaN where unscored."""
    column = COLUMNS[measure]
    if column not in rows:
        return np.full(len(places), np.nan)
    values: Floats = np.asarray(rows[column])[places].astype(np.float64)
    if measure == "recall@10":
        return np.where(np.isnan(values), np.nan, (values <= TOP).astype(np.float64))
    return values


def _table(rows_a: Rows, rows_b: Rows, mine: Ints, theirs: Ints, groups: list[str]) -> dict[str, NDArray[Any]]:
    shared = ("task", "split", "operation", "condition", "severity", "sample", "concept", "query", "target", *groups)
    table: dict[str, NDArray[Any]] = {name: _cells(rows_a, name, mine) for name in shared}
    for side, rows, places in (("a", rows_a, mine), ("b", rows_b, theirs)):
        table[f"answer_{side}"] = _cells(rows, "answer", places)
        for number in ("rank", "confidence"):
            known = number in rows
            table[f"{number}_{side}"] = (
                np.asarray(rows[number])[places].astype(np.float64) if known else np.full(len(places), np.nan)
            )
    return table


def _cells(rows: Rows, name: str, places: Ints) -> NDArray[Any]:
    return rows[name][places] if name in rows else np.full(len(places), "", dtype=object)


def _because(notes: list[str]) -> str:
    return f": {notes[0]}" if notes else ""
