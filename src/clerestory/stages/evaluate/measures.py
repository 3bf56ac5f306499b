"""Which measurements are taken from the rows, on which slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.measure import Finding, Measurement, Recipe
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.describing import CAPTION
from clerestory.stages.evaluate.latency import LATENCY
from clerestory.stages.evaluate.retrieval import IMAGE_TO_TEXT, RECALLS, TEXT_TO_IMAGE
from clerestory.stages.evaluate.table import MIXED, Table
from clerestory.stats.aggregate import Rows, measure

CONCEPT = "concept"
MOST_MIXED = 0.1


def measurements(rows: Rows, table: Table, config: EvaluateConfig) -> tuple[list[Measurement], list[Finding]]:
    """Everything that is measured, and the slices that are too small to be."""
    found: list[Measurement] = []
    findings: list[Finding] = []
    for where in _kinds(rows, ("task", "split"), IMAGE_TO_TEXT, TEXT_TO_IMAGE):
        found += _retrieval(rows, where)
        for group in config.slice_by:
            if group in table.groups:
                slices, small = _sliced(rows, where, group, table.groups[group], config)
                found += slices
                findings += small
    for where in _kinds(rows, ("task", "split"), CAPTION):
        best = f"chrf_best_of_{config.suggestions}"
        for name, column in (("chrf", "chrf"), (best, "chrf_best")):
            if _scored(rows, where, column):
                found.append(measure(rows, Recipe("mean", column, Tags(where), CONCEPT), name, "share"))
    for where in _kinds(rows, ("task", "operation"), LATENCY):
        for q in (0.5, 0.95):
            recipe = Recipe("quantile", "ms", Tags(where), parameter=q)
            found.append(measure(rows, recipe, f"latency_p{q * 100:.0f}", "ms", direction="lower"))
    return found, findings


def _kinds(rows: Rows, columns: tuple[str, str], *tasks: str) -> Iterator[dict[str, str]]:
    """The distinct values of two columns among the rows of some tasks, in the order of first appearance."""
    pairs = zip(rows[columns[0]].tolist(), rows[columns[1]].tolist(), strict=True)
    for task, other in dict.fromkeys(pairs):
        if task in tasks:
            yield {columns[0]: task, columns[1]: other}


def _retrieval(rows: Rows, where: Mapping[str, str], columns: Mapping[str, str] | None = None) -> list[Measurement]:
    """Recall@k and the median rank on one slice; ``columns`` is the recipe's ``where`` if its names differ."""
    tags = Tags(columns or where)
    found = [
        measure(rows, Recipe("share_at_most", "rank", tags, CONCEPT, float(k)), f"recall@{k}", "share", where)
        for k in RECALLS
    ]
    median = Recipe("quantile", "rank", tags, CONCEPT, 0.5)
    return [*found, measure(rows, median, "median_rank", "rank", where, "lower")]


def _sliced(
    rows: Rows, where: Mapping[str, str], group: str, column: str, config: EvaluateConfig
) -> tuple[list[Measurement], list[Finding]]:
    """The retrieval measurements for each value of a group.

    Only where the group tells the queries apart: it has two values or more, and at most a tenth of the queries are
    about pictures that do not agree on it (a caption drawn in all styles belongs to none).
    """
    chosen = _matching(rows, where) & ~np.isnan(rows["rank"])
    values = Counter(value for value in rows[column][chosen].tolist() if value)
    mixed = values.pop(MIXED, 0)
    if len(values) < 2 or mixed > MOST_MIXED * int(chosen.sum()):
        return [], []
    found: list[Measurement] = []
    findings = []
    for value in sorted(values):
        concepts = len(set(rows[CONCEPT][chosen & np.asarray(rows[column] == value)].tolist()))
        if concepts >= config.slice_concepts:
            found += _retrieval(rows, {**where, group: value}, {**where, column: value})
            continue
        message = f"{concepts} concepts, fewer than the {config.slice_concepts} a slice needs, so it was not measured"
        slice_ = Tags({**where, group: value})
        fix = "bring in more such pictures, or lower slice_concepts"
        findings.append(Finding("CLR-E005", "info", "not_run", str(slice_), message, fix))
    return found, findings


def _matching(rows: Rows, where: Mapping[str, str]) -> Any:
    keep = np.ones(len(rows["task"]), dtype=bool)
    for name, value in where.items():
        keep &= np.asarray(rows[name] == value)
    return keep


def _scored(rows: Rows, where: Mapping[str, str], column: str) -> bool:
    return bool((_matching(rows, where) & ~np.isnan(rows[column])).any())
