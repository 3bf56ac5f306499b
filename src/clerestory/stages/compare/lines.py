"""The lines of a comparison, and the samples that flipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.core.comparison import Flip, Line
from clerestory.stages.compare.config import CompareConfig
from clerestory.stages.compare.pairs import Pairs, slices
from clerestory.stats.paired import Difference, Ints, holm, is_binary, mcnemar, paired_difference
from clerestory.stats.pairing import clusters
from clerestory.stats.power import minimum_detectable
from clerestory.stats.verdict import judge

CLUSTER = "concept"
Table = Mapping[str, NDArray[Any]]


def make_lines(pairs: Pairs, config: CompareConfig, names: tuple[str, str]) -> list[Line]:
    """One line for every task, family of conditions and group; p values adjusted by Holm.

    The lines about whole tasks are one family of claims, those about groups another: whoever looks at hundreds of
    groups must expect some to differ by chance, and that must not blur what is said of the tasks.
    """
    found: list[tuple[Line, Difference]] = []
    for task, split, family, group, value, places in slices(pairs):
        a, b = pairs.rows["a"][places], pairs.rows["b"][places]
        difference = paired_difference(a, b, clusters(pairs.rows, CLUSTER, places), 1 - config.alpha)
        binary = is_binary(a) and is_binary(b)
        exact = mcnemar(a, b) if binary else None
        interval = difference.interval
        line = Line(
            task=task,
            split=split,
            condition=family,
            group=group,
            value=value,
            measure=pairs.measures[task, split],
            a=math.fsum(a) / len(a),
            b=math.fsum(b) / len(b),
            difference=difference.value,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            method=interval.method if interval else "",
            p=difference.p,
            adjusted=None,
            exact=exact.p if exact and difference.clusters == difference.n else None,
            only_a=exact.only_a if exact else None,
            only_b=exact.only_b if exact else None,
            n=difference.n,
            clusters=difference.clusters,
            dropped=_dropped(pairs.rows, task, split, family, group, value) - difference.n,
            detectable=minimum_detectable(difference, config.alpha),
            word="inconclusive",
            needs=None,
            sentence="",
        )
        found.append((line, difference))
    return _judged(found, config, names)


def _judged(found: list[tuple[Line, Difference]], config: CompareConfig, names: tuple[str, str]) -> list[Line]:
    """Every line with its adjusted p value and its word."""
    adjusted: dict[int, float] = {}
    for whole in (True, False):
        mine = [i for i, (line, _) in enumerate(found) if line.whole == whole and line.p is not None]
        adjusted |= zip(mine, holm([found[i][0].p or 0.0 for i in mine]), strict=True)
    lines = []
    for i, (line, difference) in enumerate(found):
        said = judge(difference, config.margin, names=names, p=adjusted.get(i))
        needs = said.needs.rows if said.needs else None
        lines.append(replace(line, adjusted=adjusted.get(i), word=said.word, needs=needs, sentence=said.sentence))
    return lines


def _dropped(rows: Table, task: str, split: str, family: str, group: str, value: str) -> int:
    """How many rows a line would have, were all of them scored for both."""
    keep = (rows["task"] == task) & (rows["split"] == split) & (rows["family"] == family)
    return int((keep & (rows[group] == value)).sum() if group else keep.sum())


def make_flips(pairs: Pairs, config: CompareConfig) -> list[Flip]:
    """The samples that one got right and the other wrong, furthest first within each task, family and direction."""
    rows, found = pairs.rows, []
    for *_, group, _value, places in slices(pairs):
        a, b = rows["a"][places], rows["b"][places]
        if group or not (is_binary(a) and is_binary(b)):
            continue
        both: tuple[tuple[Literal["a", "b"], Ints], ...] = (
            ("b", places[(a == 0) & (b == 1)]),
            ("a", places[(a == 1) & (b == 0)]),
        )
        for right, flipped in both:
            far = _far(rows, flipped)
            order = np.lexsort((rows["sample"][flipped].astype(str), -far))[: config.flips]
            found += [_flip(rows, int(flipped[i]), right, float(far[i])) for i in order]
    return found


def _far(rows: Table, places: Ints) -> NDArray[np.float64]:
    """How far a row flipped: how many times further down the answer went, or how sure both were; 1 where unknown."""
    ranks = rows["rank_a"][places], rows["rank_b"][places]
    sure = rows["confidence_a"][places] + rows["confidence_b"][places]
    with np.errstate(invalid="ignore", divide="ignore"):
        far = np.abs(np.log(ranks[0] / ranks[1]))
    return np.where(np.isfinite(far), far, np.where(np.isfinite(sure), sure, 1.0))


def _flip(rows: Table, i: int, right: Literal["a", "b"], far: float) -> Flip:
    said = []
    for side in ("a", "b"):
        answer, rank = str(rows[f"answer_{side}"][i]), float(rows[f"rank_{side}"][i])
        said.append(answer or (f"place {rank:,.0f}" if math.isfinite(rank) else ""))
    text = {name: str(rows[name][i]) for name in ("task", "split", "condition", "severity", "sample")}
    caption = str(rows["target"][i] or rows["query"][i])
    return Flip(**text, caption=caption, right=right, said_a=said[0], said_b=said[1], far=round(far, 4))
