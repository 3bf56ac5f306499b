"""The results of a comparison: differences with intervals, adjusted p values and outcomes."""

from __future__ import annotations

import math
from dataclasses import replace

from clerestory.core.comparison import ComparisonRow
from clerestory.core.rows import CLUSTER_COLUMN
from clerestory.stages.compare.config import CompareConfig
from clerestory.stages.compare.paired_scores import PairedScores, Slice, slices
from clerestory.stats.aggregate import Rows
from clerestory.stats.paired import Difference, holm, is_binary, mcnemar, paired_difference
from clerestory.stats.pairing import clusters
from clerestory.stats.power import minimum_detectable_effect
from clerestory.stats.verdict import judge_difference


def compare_slices(pairs: PairedScores, config: CompareConfig, names: tuple[str, str]) -> list[ComparisonRow]:
    """One result for every task, family of conditions and group; p values adjusted by Holm's method.

    The results on whole tasks are one family of claims, those on groups another: among hundreds of groups some differ
    by chance, which must not affect the results on the tasks.
    """
    compared: list[tuple[ComparisonRow, Difference]] = []
    for slice_ in slices(pairs):
        a, b = pairs.rows["a"][slice_.indices], pairs.rows["b"][slice_.indices]
        cluster_numbers = clusters(pairs.rows, CLUSTER_COLUMN, slice_.indices)
        difference = paired_difference(a, b, cluster_numbers, 1 - config.alpha)
        exact = mcnemar(a, b) if is_binary(a) and is_binary(b) else None
        interval = difference.interval
        row = ComparisonRow(
            task=slice_.task,
            split=slice_.split,
            condition=slice_.family,
            group=slice_.group,
            value=slice_.value,
            metric=pairs.metrics[slice_.task, slice_.split],
            a=math.fsum(a) / len(a),
            b=math.fsum(b) / len(b),
            difference=difference.value,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            method=interval.method if interval else "",
            p_value=difference.p,
            p_adjusted=None,
            p_mcnemar=exact.p if exact and difference.clusters == difference.n else None,
            only_a=exact.only_a if exact else None,
            only_b=exact.only_b if exact else None,
            n=difference.n,
            clusters=difference.clusters,
            dropped=_num_rows(pairs.rows, slice_) - difference.n,
            detectable=minimum_detectable_effect(difference, config.alpha),
            outcome="inconclusive",
            additional_rows=None,
            message="",
        )
        compared.append((row, difference))
    return _with_outcomes(compared, config, names)


def _with_outcomes(
    compared: list[tuple[ComparisonRow, Difference]], config: CompareConfig, names: tuple[str, str]
) -> list[ComparisonRow]:
    """Every result with its adjusted p value and its outcome."""
    adjusted: dict[int, float] = {}
    for overall in (True, False):
        family = [i for i, (row, _) in enumerate(compared) if row.is_overall == overall and row.p_value is not None]
        adjusted |= zip(family, holm([compared[i][0].p_value or 0.0 for i in family]), strict=True)
    results = []
    for i, (row, difference) in enumerate(compared):
        verdict = judge_difference(difference, config.margin, names=names, p=adjusted.get(i))
        results.append(
            replace(
                row,
                p_adjusted=adjusted.get(i),
                outcome=verdict.outcome,
                additional_rows=verdict.additional.rows if verdict.additional else None,
                message=verdict.message,
            )
        )
    return results


def _num_rows(rows: Rows, slice_: Slice) -> int:
    """How many rows a result would have if all of them were scored for both models."""
    chosen = (rows["task"] == slice_.task) & (rows["split"] == slice_.split) & (rows["family"] == slice_.family)
    return int((chosen & (rows[slice_.group] == slice_.value)).sum() if slice_.group else chosen.sum())
