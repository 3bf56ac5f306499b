"""Measurements of one number given once more for each value of a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.stages.evaluate.shared.measures import matching
from clerestory.stages.evaluate.shared.row_builder import CLEAN, MIXED
from clerestory.stats.aggregate import Rows, measure

CONCEPT = "concept"


def concepts_by_value(rows: Rows, where: Mapping[str, str], group: str, scored: str) -> dict[str, int]:
    """How many concepts the scored rows of each value of a group show; rows without a value count for none."""
    keep = matching(rows, where) & ~np.isnan(rows[scored])
    found: dict[str, set[str]] = {}
    for value, concept in zip(rows[group][keep].tolist(), rows[CONCEPT][keep].tolist(), strict=True):
        if value not in ("", MIXED):
            found.setdefault(value, set()).add(concept)
    return {value: len(concepts) for value, concepts in sorted(found.items())}


def mean_by_value(
    rows: Rows, where: Mapping[str, str], group: str, held: str, column: str, name: str, least: int
) -> tuple[list[Measurement], list[Finding]]:
    """The mean of a column for each value of a group that has at least ``least`` concepts; the others are named.

    Nothing where the group does not tell the rows apart. ``held`` is the column of the rows that holds the group.
    """
    counts = concepts_by_value(rows, {**where, "condition": CLEAN}, held, column)
    if len(counts) < 2:
        return [], []
    found, findings = [], []
    for value, concepts in counts.items():
        slice_ = {**where, group: value}
        if concepts < least:
            findings.append(too_small(slice_, concepts, least))
            continue
        recipe = Recipe("mean", column, Tags({"condition": CLEAN, **where, held: value}), CONCEPT)
        found.append(measure(rows, recipe, name, slice_))
    return found, findings


def too_small(slice_: Mapping[str, str], concepts: int, least: int) -> Finding:
    """A slice that has too few concepts to be measured."""
    message = f"{concepts} concepts, fewer than the {least} a slice needs, so it was not measured"
    fix = "bring in more such pictures, or lower slice_concepts"
    return Finding("CLR-E005", "info", "not_run", str(Tags(slice_)), message, fix)


def attempt(take: Callable[[], Measurement], where: str, code: str) -> tuple[list[Measurement], list[Finding]]:
    """A measurement that the rows may not allow: then a finding says in one sentence why, and what would."""
    try:
        return [take()], []
    except InputError as error:
        return [], [Finding(code, "info", "not_applicable", where, error.message, error.fix)]
