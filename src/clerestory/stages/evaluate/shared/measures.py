"""Which measurements of retrieval are taken from the rows, on which slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.shared.retrieval_metrics import RECALLS
from clerestory.stages.evaluate.shared.row_builder import CLEAN, MIXED
from clerestory.stats.aggregate import Rows, measure

CONCEPT = "concept"
MOST_MIXED = 0.1


def kinds(rows: Rows, columns: tuple[str, str], *tasks: str) -> Iterator[dict[str, str]]:
    """The distinct values of two columns among the rows of some tasks, in the order of first appearance."""
    pairs = zip(rows[columns[0]].tolist(), rows[columns[1]].tolist(), strict=True)
    for task, other in dict.fromkeys(pairs):
        if task in tasks:
            yield {columns[0]: task, columns[1]: other}


def retrieval_measures(
    rows: Rows, where: Mapping[str, str], columns: Mapping[str, str] | None = None
) -> list[Measurement]:
    """Recall@k and the median rank on one slice; ``columns`` is the recipe's ``where`` if its names differ."""
    tags = Tags({"condition": CLEAN, **(columns or where)})
    found = [
        measure(rows, Recipe("share_at_most", "rank", tags, CONCEPT, float(k)), f"recall@{k}", where)
        for k in RECALLS
    ]
    median = Recipe("quantile", "rank", tags, CONCEPT, 0.5)
    return [*found, measure(rows, median, "median_rank", where)]


def sliced_measures(
    rows: Rows, where: Mapping[str, str], group: str, column: str, config: EvaluateConfig
) -> tuple[list[Measurement], list[Finding]]:
    """The retrieval measurements for each value of a group.

    Only where the group tells the queries apart: it has two values or more, and at most a tenth of the queries are
    about pictures that do not agree on it (a caption drawn in all styles belongs to none).
    """
    chosen = matching(rows, where) & ~np.isnan(rows["rank"])
    values = Counter(value for value in rows[column][chosen].tolist() if value)
    mixed = values.pop(MIXED, 0)
    if len(values) < 2 or mixed > MOST_MIXED * int(chosen.sum()):
        return [], []
    found: list[Measurement] = []
    findings = []
    for value in sorted(values):
        concepts = len(set(rows[CONCEPT][chosen & np.asarray(rows[column] == value)].tolist()))
        if concepts >= config.min_slice_concepts:
            found += retrieval_measures(rows, {**where, group: value}, {**where, column: value})
            continue
        message = f"{concepts} concepts, fewer than the {config.min_slice_concepts} a slice needs, so it was not measured"
        slice_ = Tags({**where, group: value})
        fix = "bring in more such pictures, or lower slice_concepts"
        findings.append(Finding("CLR-E005", "info", "not_run", str(slice_), message, fix))
    return found, findings


def matching(rows: Rows, where: Mapping[str, str]) -> Any:
    """Which rows have these values in these columns."""
    keep = np.ones(len(rows["task"]), dtype=bool)
    for name, value in where.items():
        keep &= np.asarray(rows[name] == value)
    return keep


def scored(rows: Rows, where: Mapping[str, str], column: str) -> bool:
    """Whether any row of a slice has a number in a column."""
    return bool((matching(rows, where) & ~np.isnan(rows[column])).any())
