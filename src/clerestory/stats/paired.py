"""Two models on the same samples: the difference, its interval and its p-value.

Two models that answer the same questions agree on most of them, so the rows are paired first and the *differences*
``a - b`` are analysed: their variance is far smaller than that of either model. Rows of one cluster (the drawings of
one concept) are not independent, so standard errors are cluster-robust.

| method | for | source |
|---|---|---|
| ``paired-cluster-t`` | scores of any kind | Liang & Zeger 1986 on the differences, t on C-1 degrees of freedom |
| ``paired-bonett-price`` | binary scores | the same with one pseudo-cluster lost and one won; Bonett & Price 2012 |

The plain t test is anti-conservative for binary scores that hardly differ: the variance of two models that disagree on
3 of 2,000 samples is estimated from 3 samples. The two pseudo-clusters correct that, have little effect where there are
many differences, and give an interval even where there are none: 2,000 equal answers bound the difference, 20 do not.
With one row per cluster this is Bonett & Price's interval, and its p-value follows the exact McNemar test closely.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import InputError
from clerestory.core.evidence import Interval
from clerestory.stats.intervals import ONE_CLUSTER
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEW_CLUSTERS = 20


class Difference(NamedTuple):
    """The difference of ``a`` and ``b`` on the rows that both scored.

    Attributes:
        value: the mean of ``a - b``.
        n: number of rows that both scored.
        clusters: number of clusters they form.
        interval: of the value, or None.
        p: of no difference, two-sided, from the same distribution as the interval; None where that is None.
        sd: the standard deviation of one independent row for which ``sd / √n`` is the cluster-robust standard error; 0
            where it is unknown.
        centre: of the interval: the value, shrunk towards 0 by the pseudo-clusters where there are any.
        no_interval: why there is no interval; empty when there is one.
        dropped: number of rows that only one of the two scored, or neither; they are excluded from all numbers.
        caution: a caveat, one sentence; empty for none.
        limit: the largest difference that these scores can have: 1 for scores in 0…1.
    """

    value: float
    n: int
    clusters: int
    interval: Interval | None
    p: float | None
    sd: float
    centre: float
    no_interval: str = ""
    dropped: int = 0
    caution: str = ""
    limit: float = math.inf

    @property
    def error(self) -> float:
        """The standard error."""
        return self.sd / math.sqrt(self.n)


class NonInferiority(NamedTuple):
    """The result of a test whether ``a`` is less than a margin below ``b``.

    Attributes:
        holds: non-inferiority is shown.
        low: one-sided lower bound of ``a - b``; None where it cannot be computed.
        p: of the hypothesis that ``a`` is lower by the margin or more; None where it cannot be computed.
    """

    holds: bool
    low: float | None
    p: float | None


class McNemar(NamedTuple):
    """The exact test of binary pairs.

    Attributes:
        only_a: number of pairs that only ``a`` answered correctly.
        only_b: number of pairs that only ``b`` answered correctly.
        p: two-sided.
        p_lower: one-sided, of the hypothesis that ``a`` is not lower than ``b``; small where ``a`` is lower.
    """

    only_a: int
    only_b: int
    p: float
    p_lower: float


def match_rows(keys_a: Sequence[Hashable], keys_b: Sequence[Hashable]) -> tuple[Ints, Ints]:
    """The places of the rows of the same key, such as (id, condition), in both tables, in the order of the first.

    Raises:
        InputError: a key occurs twice in one table, or the tables share none.
    """
    places: list[dict[Hashable, int]] = []
    for keys in (keys_a, keys_b):
        place = {key: i for i, key in enumerate(keys)}
        if len(place) < len(keys):
            twice = next(key for i, key in enumerate(keys) if place[key] != i)
            raise InputError(
                f"the key {twice!r} occurs twice, so its rows cannot be paired", "evaluate the model again"
            )
        places.append(place)
    shared = [key for key in keys_a if key in places[1]]
    if not shared:
        raise InputError("the two models have no sample in common", "evaluate both on the same data and task")
    left, right = ([place[key] for key in shared] for place in places)
    return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


def paired_difference(a: Floats, b: Floats, groups: Ints, level: float = 0.95) -> Difference:
    """The mean of ``a - b`` with its cluster-robust interval and p-value. Swapping the two flips every sign exactly.

    Args:
        a: (N,) scores; NaN where there is none.
        b: (N,) scores of the same rows.
        groups: (N,) cluster numbers of any kind; ``np.arange(N)`` for independent rows.
        level: of the interval.

    Raises:
        InputError: the three differ in length, or no row is scored in both.
    """
    if not len(a) == len(b) == len(groups):
        raise InputError(f"{len(a)}, {len(b)} and {len(groups)} rows cannot be paired", "pair the rows by their id")
    keep = np.isfinite(a) & np.isfinite(b)
    if not keep.any():
        raise InputError("no sample is scored for both models", "evaluate both on the same data and task")
    a, b = a[keep], b[keep]
    group_N: Ints = np.unique(groups[keep], return_inverse=True)[1]
    differences = a - b
    n, clusters, dropped = len(a), int(group_N.max()) + 1, int((~keep).sum())
    value = math.fsum(differences) / n
    caution = f"only {clusters} clusters: the true error may be larger" if 2 <= clusters < FEW_CLUSTERS else ""

    # Differences of shares are within ±1, which a t interval on a few degrees of freedom ignores.
    limit = 1.0 if min(a.min(), b.min()) >= 0 and max(a.max(), b.max()) <= 1 else math.inf

    def without(reason: str) -> Difference:
        return Difference(value, n, clusters, None, None, 0.0, value, reason, dropped, caution, limit)

    if clusters < 2:
        return without(ONE_CLUSTER)
    jump = _pseudo_difference(a, b, differences)
    centre, variance = _spread(differences, group_N, clusters, jump)
    if variance <= 0.0:
        return without("the difference is the same in all clusters, so its variance is unknown")
    error, freedom = math.sqrt(variance), clusters - 1
    half = -float(scipy.special.stdtrit(freedom, (1 - level) / 2)) * error
    method = "paired-bonett-price" if jump else "paired-cluster-t"
    low, high = max(centre - half, -limit), min(centre + half, limit)
    interval = Interval(min(low, value), max(high, value), method, level)
    p = min(1.0, 2 * float(scipy.special.stdtr(freedom, -abs(centre) / error)))
    return Difference(value, n, clusters, interval, p, error * math.sqrt(n), centre, "", dropped, caution, limit)


def non_inferiority(difference: Difference, margin: float, alpha: float = 0.05) -> NonInferiority:
    """One-sided non-inferiority test: is ``a`` shown, at ``alpha``, to be less than ``margin`` below ``b``?"""
    if difference.interval is None:
        return NonInferiority(False, None, None)
    freedom = difference.clusters - 1
    low = difference.centre + float(scipy.special.stdtrit(freedom, alpha)) * difference.error
    p = float(scipy.special.stdtr(freedom, -(difference.centre + margin) / difference.error))
    return NonInferiority(p < alpha, low, p)


def mcnemar(a: Floats, b: Floats, mid: bool = False) -> McNemar:
    """The exact McNemar test of independent binary pairs (McNemar 1947): a binomial test of the disagreements.

    Args:
        a: (N,) zeros and ones; pairs with a NaN are excluded.
        b: (N,) of the same rows, which must be independent of one another.
        mid: the mid-p-value (Lancaster 1961; Fagerland et al. 2013): the observed outcome counts half. Its
            false-positive rate is close to the level instead of far below it, sometimes slightly above.

    Raises:
        InputError: values other than 0 and 1.
    """
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = a[keep], b[keep]
    if not (is_binary(a) and is_binary(b)):
        raise InputError("McNemar's test needs binary scores, 1 or 0", "compare other scores by their mean")
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    total, fewer = only_a + only_b, min(only_a, only_b)
    tail, lower = 2 * _coin(fewer, total), _coin(only_a, total)
    if mid:
        tail -= _coin(fewer, total) - _coin(fewer - 1, total)
        lower -= (lower - _coin(only_a - 1, total)) / 2
    return McNemar(only_a, only_b, min(1.0, tail), lower)


def holm(pvalues: Sequence[float]) -> list[float]:
    """The p-values adjusted for the family-wise error rate (Holm 1979)."""
    order = sorted(range(len(pvalues)), key=lambda i: pvalues[i])
    adjusted, highest = [0.0] * len(pvalues), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(pvalues) - place) * pvalues[i]))
        adjusted[i] = highest
    return adjusted


def _pseudo_difference(a: Floats, b: Floats, differences: Floats) -> float:
    """The difference of a row in a pseudo-cluster: 1 for binary scores; 0 where no pseudo-cluster is needed.

    Scores of other kinds need them only where the two models never differ; then it is the range of all scores.
    """
    if is_binary(a) and is_binary(b):
        return 1.0
    if differences.any():
        return 0.0
    return 1.0 if a.min() >= 0 and a.max() <= 1 else float(a.max() - a.min())


def _spread(differences: Floats, groups: Ints, clusters: int, jump: float) -> tuple[float, float]:
    """The centre and the variance of the mean, with two pseudo-clusters of average size where ``jump`` is not 0.

    They differ as much as the clusters that differ do; where none does, by ``jump`` in every row.
    """
    sums, sizes = np.bincount(groups, weights=differences), np.bincount(groups).astype(np.float64)
    if jump:
        size = len(differences) / clusters
        moved = sums[sums != 0]
        pull = math.sqrt(math.fsum(moved * moved) / len(moved)) if len(moved) else jump * size
        sums = np.concatenate([sums, [pull, -pull]])
        sizes = np.concatenate([sizes, [size, size]])
    rows, count = math.fsum(sizes), len(sums)
    centre = math.fsum(sums) / rows
    residuals = sums - centre * sizes
    return centre, count / (count - 1) * math.fsum(residuals * residuals) / rows**2


def _coin(heads: int, tosses: int) -> float:
    """The probability of at most that many heads."""
    return float(scipy.special.bdtr(heads, tosses, 0.5)) if heads >= 0 else 0.0


def is_binary(values: Floats) -> bool:
    """Whether all values are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())
