"""Every measurement that two evaluations share: better, worse, no difference or inconclusive, by paired samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Facts
from clerestory.core.comparison import MetricDifference
from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence, Measurement, Recipe
from clerestory.core.rows import ANY
from clerestory.stages.compare.config import CompareConfig
from clerestory.stats.aggregate import Rows
from clerestory.stats.metrics import metric
from clerestory.stats.paired import Difference, Ints, holm, paired_difference
from clerestory.stats.pairing import clusters, different_candidates, join, scores
from clerestory.stats.rows import read_rows
from clerestory.stats.verdict import judge_difference
from clerestory.store import Store

RANK = "rank"  # the column of retrieval ranks, which depend on the number of candidates
WHOLE_TASK = frozenset({"task", "split"})
NO_MARGIN = 1e-12  # of units other than a share, in which no difference is known to be negligible


@dataclass(frozen=True)
class _Pairs:
    """The rows of the same questions in both evaluations; masks of columns are computed once."""

    rows_a: Rows
    rows_b: Rows
    at_a: Ints
    at_b: Ints
    facts: tuple[Facts, Facts]
    masks: dict[tuple[str, str], NDArray[np.bool_]]

    def chosen(self, recipe: Recipe) -> Ints:
        """The pairs that a recipe selects."""
        keep = np.ones(len(self.at_a), dtype=bool)
        for name, value in recipe.where.items():
            if (name, value) not in self.masks:
                cells = self.rows_a[name][self.at_a] if name in self.rows_a else np.full(len(keep), "", dtype=object)
                self.masks[name, value] = np.asarray(cells != "" if value == ANY else cells == value, dtype=bool)
            keep &= self.masks[name, value]
        return np.flatnonzero(keep)


def metric_differences(
    a: Evidence, b: Evidence, store: Store, config: CompareConfig, names: tuple[str, str]
) -> tuple[MetricDifference, ...]:
    """Compare every measurement that two evaluations share, sample by sample where it is a mean or a share.

    A quantile, an AUROC or a timing is not a mean over the same samples, so they show nothing about it: the outcome is
    ``inconclusive`` with the reason, whatever the two values look like. p values are adjusted by Holm's method, whole
    tasks as one family and slices as another.

    Args:
        a: the evaluation that the outcomes are about.
        b: the one it is compared with.
        store: holds their rows.
        config: the margin for shares, and alpha.
        names: of the two, for the messages.
    """
    rows_a, rows_b = (read_rows(store.blobs.get(each.rows)) for each in (a, b))
    joined = join(rows_a, rows_b)
    pairs = _Pairs(rows_a, rows_b, joined.a, joined.b, (a.facts, b.facts), {})
    theirs = {each.key: each for each in b.measurements}
    shared = [(each, theirs[each.key]) for each in a.measurements if each.key in theirs]
    tested: dict[int, Difference] = {}
    why_not: dict[int, str] = {}
    for i, (mine, other) in enumerate(shared):
        try:
            tested[i] = _difference(mine, other, pairs, config)
        except InputError as error:
            why_not[i] = error.message
    adjusted: dict[int, float] = {}
    for whole in (True, False):
        family = [i for i, d in tested.items() if d.p is not None and (set(shared[i][0].slice) <= WHOLE_TASK) == whole]
        adjusted |= zip(family, holm([tested[i].p or 0.0 for i in family]), strict=True)
    return tuple(
        _judged(mine, other, tested[i], adjusted.get(i), config, names) if i in tested else _unpaired(mine, other, why)
        for i, (mine, other) in enumerate(shared)
        for why in (why_not.get(i, ""),)
    )


def _difference(mine: Measurement, other: Measurement, pairs: _Pairs, config: CompareConfig) -> Difference:
    """The paired difference of one measurement.

    Raises:
        InputError: it cannot be compared sample by sample; the message is the reason.
    """
    recipe = mine.recipe
    if metric(mine.name).machine_dependent:
        raise InputError("timings are not compared, because they were taken at different times")
    if recipe is None or other.recipe != recipe:
        raise InputError("it is not computed from samples in the same way for both")
    if recipe.column == RANK:
        task, split = recipe.where.get("task", ""), recipe.where.get("split", "")
        if difference := different_candidates(*pairs.facts, task, split):
            raise InputError(difference)
    chosen = pairs.chosen(recipe)
    if not len(chosen):
        raise InputError("no sample is scored for both")
    at_a, at_b = pairs.at_a[chosen], pairs.at_b[chosen]
    return paired_difference(
        scores(pairs.rows_a, recipe, at_a),
        scores(pairs.rows_b, recipe, at_b),
        clusters(pairs.rows_a, recipe.cluster, at_a),
        1 - config.alpha,
    )


def _unpaired(mine: Measurement, other: Measurement, why: str) -> MetricDifference:
    return MetricDifference(
        metric=mine.name,
        slice=mine.slice,
        unit=mine.unit,
        direction=mine.direction,
        a=mine.value,
        b=other.value,
        difference=None,
        low=None,
        high=None,
        p_adjusted=None,
        n=min(mine.n, other.n),
        outcome="inconclusive",
        message=why,
    )


def _judged(
    mine: Measurement,
    other: Measurement,
    difference: Difference,
    p: float | None,
    config: CompareConfig,
    names: tuple[str, str],
) -> MetricDifference:
    margin = config.margin if mine.unit == "share" else NO_MARGIN
    verdict = judge_difference(difference, margin, mine.direction, mine.unit, names, p)
    interval = difference.interval
    undirected = mine.direction == "none" and verdict.outcome in ("better", "worse")
    return replace(
        _unpaired(mine, other, "it differs, and neither way is better" if undirected else verdict.message),
        difference=difference.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p_adjusted=p,
        n=difference.n,
        outcome="inconclusive" if undirected else verdict.outcome,
    )
