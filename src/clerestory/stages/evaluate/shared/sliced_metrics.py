"""Metrics of the values of a group one by one, and of slices that the rows may be too few for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.findings import FindingCode
from clerestory.core.rows import CLUSTER_COLUMN, MIXED, Condition
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.row_builder import rows_matching
from clerestory.stats.aggregate import Rows, measure

# Above this share of rows whose samples disagree on a group, the group does not divide the rows.
MAX_MIXED = 0.1

Measured = tuple[list[Measurement], list[Finding]]


class Grouping(NamedTuple):
    """A group by whose values metrics are measured.

    Attributes:
        name: the key of the group in the slices of measurements.
        column: the column of the rows that has its values.
        min_concepts: a value with fewer concepts is not measured, and a finding names it.
        min_values: with fewer values the group does not divide the rows, and nothing is measured.
        code: of the finding about a value with too few concepts.
    """

    name: str
    column: str
    min_concepts: int
    min_values: int = 2
    code: FindingCode = findings.SMALL_SLICE


def measure_by_value(
    rows: Rows,
    grouping: Grouping,
    where: Mapping[str, str],
    score: str,
    compute: Callable[[str], list[Measurement]],
    slice_: Mapping[str, str] | None = None,
) -> Measured:
    """Measure every value of a group that has enough concepts.

    Args:
        rows: per-sample rows.
        grouping: the group.
        where: the rows to divide, besides that they are of the condition ``clean``.
        score: the column that a row needs a number in.
        compute: gives the measurements of one value.
        slice_: the slice of the measurements without the group; ``where`` by default.
    """
    scored = rows_matching(rows, {**where, "condition": Condition.CLEAN}) & ~np.isnan(rows[score])
    values = Counter(value for value in rows[grouping.column][scored].tolist() if value)
    mixed = values.pop(MIXED, 0)
    if len(values) < grouping.min_values or mixed > MAX_MIXED * int(scored.sum()):
        return [], []
    concepts = concepts_by_value(rows, where, grouping.column, score)
    found: list[Measurement] = []
    notes: list[Finding] = []
    for value in sorted(values):
        if concepts[value] >= grouping.min_concepts:
            found += compute(value)
        else:
            tags = Tags({**(slice_ or where), grouping.name: value})
            notes.append(too_small(tags, concepts[value], grouping.min_concepts, grouping.code))
    return found, notes


def mean_by_value(rows: Rows, grouping: Grouping, where: Mapping[str, str], column: str, name: str) -> Measured:
    """The mean of a column for every value of a group that has enough concepts."""

    def mean(value: str) -> list[Measurement]:
        tags = Tags({"condition": Condition.CLEAN, **where, grouping.column: value})
        recipe = Recipe("mean", column, tags, CLUSTER_COLUMN)
        return [measure(rows, recipe, name, {**where, grouping.name: value})]

    return measure_by_value(rows, grouping, where, column, mean)


def concepts_by_value(rows: Rows, where: Mapping[str, str], column: str, score: str) -> dict[str, int]:
    """How many concepts the scored clean rows of every value of a column have; rows without a value are left out."""
    keep = rows_matching(rows, {**where, "condition": Condition.CLEAN}) & ~np.isnan(rows[score])
    concepts: dict[str, set[str]] = defaultdict(set)
    for value, concept in zip(rows[column][keep].tolist(), rows[CLUSTER_COLUMN][keep].tolist(), strict=True):
        if value not in ("", MIXED):
            concepts[value].add(concept)
    return {value: len(names) for value, names in sorted(concepts.items())}


def too_small(slice_: Tags, concepts: int, minimum: int, code: FindingCode = findings.SMALL_SLICE) -> Finding:
    """A slice with too few concepts to be measured."""
    noun = "concept" if concepts == 1 else "concepts"
    message = f"the slice {slice_} has {concepts} {noun}, below the minimum of {minimum}, so it was not measured"
    group, value = slice_.get("group", ""), slice_.get("value", "")
    return code.finding(str(slice_), message, count=concepts, minimum=minimum, group=group, value=value)


def measure_or_explain(compute: Callable[[], Measurement], where: str, code: FindingCode) -> Measured:
    """A measurement, or a finding that explains why the rows do not allow it."""
    try:
        return [compute()], []
    except InputError as error:
        return [], [code.finding(where, error.message, fix=error.fix, state="not_applicable")]
