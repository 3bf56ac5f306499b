"""Confidence intervals that respect clusters.

Rows of one cluster (such as the drawings of one concept) resemble one another, so they carry less information than as
many independent rows. Every function takes ``groups``: one cluster number (0, 1, …) per row; ``np.arange(n)`` for
independent rows.

| method | for | source |
|---|---|---|
| ``cluster-t`` | means and shares | Liang & Zeger 1986, with C/(C-1) and t on C-1 degrees of freedom |
| ``cluster-wilson`` | shares near 0 or 1, or of few clusters | Wilson 1927 on the effective n; Dean & Pagano 2015 |
| ``order-statistics`` | quantiles of independent rows | exact, from the binomial distribution |
| ``cluster-woodruff`` | quantiles of clustered rows | Woodruff 1952, with the effective n of the clusters |

A function returns the interval, or one sentence on why there is none.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from clerestory.core.evidence import Interval
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEW_CLUSTERS = 20
FEW_EVENTS = 10.0
ONE_CLUSTER = "all rows are in one cluster, so the variance between clusters is unknown"
NO_VARIANCE = "all clusters have the same mean, so the variance between clusters is unknown"


def cluster_variance(values: Floats, groups: Ints) -> float:
    """Variance of the mean of all rows when only clusters are independent.

    With residual sums ``s_c`` over the rows of cluster c: ``C/(C-1) · Σ s_c² / n²``. With one row to a cluster this
    is the textbook ``s²/n``. Needs at least two clusters.
    """
    mean = math.fsum(values) / len(values)
    sums = np.bincount(groups, weights=values - mean)
    count = len(sums)
    return count / (count - 1) * math.fsum(sums * sums) / len(values) ** 2


def mean_interval(values: Floats, groups: Ints, level: float = 0.95) -> Interval | str:
    """Interval of a mean: ``cluster-t``."""
    clusters = _count(groups)
    if clusters < 2:
        return ONE_CLUSTER
    mean, variance = math.fsum(values) / len(values), cluster_variance(values, groups)
    if variance <= 0.0:
        return NO_VARIANCE
    half = _t(level, clusters) * math.sqrt(variance)
    return Interval(mean - half, mean + half, "cluster-t", level)


def share_interval(hits: Floats, groups: Ints, level: float = 0.95) -> Interval | str:
    """Interval of a share, from a 0/1 value per row: ``cluster-t`` cut to 0…1, or ``cluster-wilson``.

    Wilson's is used where the other is known to be too short: fewer than 20 clusters, or fewer than 10 hits or misses
    after the correction for clusters. A share of exactly 0 or 1 therefore still has an interval.
    """
    clusters = _count(groups)
    if clusters < 2:
        return ONE_CLUSTER
    share = math.fsum(hits) / len(hits)
    size = effective_size(hits, groups)
    rare = min(share, 1 - share) * size < FEW_EVENTS
    if rare:
        # The variance between clusters cannot be estimated from a few hits; one row per cluster is conservative.
        size = min(size, float(clusters))
    if rare or clusters < FEW_CLUSTERS:
        return wilson(share, size, _t(level, clusters), level)
    half = _t(level, clusters) * math.sqrt(cluster_variance(hits, groups))
    return Interval(max(share - half, 0.0), min(share + half, 1.0), "cluster-t", level)


def wilson(share: float, size: float, critical: float, level: float) -> Interval:
    """Wilson's score interval of a share among ``size`` (possibly effective) rows at a critical value."""
    square = critical * critical
    centre = (share + square / (2 * size)) / (1 + square / size)
    half = critical / (1 + square / size) * math.sqrt(share * (1 - share) / size + square / (4 * size * size))
    # Rounding must not move the bounds past the point, which they touch at 0 and at 1.
    low, high = max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)
    return Interval(low, high, "cluster-wilson", level)


def effective_size(hits: Floats, groups: Ints) -> float:
    """The effective sample size: as many independent rows would estimate a share as precisely as these clustered ones.

    Where the variance cannot be estimated (all hits or all misses, or clusters that cancel out exactly) it is the
    number of clusters, the conservative choice. It is never more than the number of rows.
    """
    clusters = _count(groups)
    share = math.fsum(hits) / len(hits)
    variance = cluster_variance(hits, groups) if clusters > 1 else 0.0
    if variance <= 0.0 or share in (0.0, 1.0):
        return float(clusters)
    return min(share * (1 - share) / variance, float(len(hits)))


def quantile_interval(values: Floats, groups: Ints, q: float, level: float = 0.95) -> Interval | str:
    """Interval of the ``q`` quantile.

    ``order-statistics`` where every row is its own cluster, else ``cluster-woodruff``.

    Both bounds are observed values. Where the rows are too few for a bound to exist (the 95th percentile of 20 rows may
    lie above all of them), the result is a sentence with the number of rows needed.
    """
    ordered = np.sort(values)
    if _count(groups) == len(values):
        return _exact_quantile(ordered, q, level)
    return _woodruff(values, ordered, groups, q, level)


def _exact_quantile(ordered: Floats, q: float, level: float) -> Interval | str:
    n, tail = len(ordered), (1 - level) / 2
    # X_(i) ≤ quantile has probability P(B ≥ i) and quantile ≤ X_(j) has P(B < j), with B ~ Binomial(n, q).
    low = int(scipy.stats.binom.ppf(tail, n, q))
    high = int(scipy.stats.binom.isf(tail, n, q)) + 1
    if low < 1 or high > n:
        needed = math.ceil(math.log(tail) / math.log(max(q, 1 - q)))
        return f"{n} rows cannot bound the {q:g} quantile at level {level:g}; about {needed} are needed"
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]), "order-statistics", level)


def _woodruff(values: Floats, ordered: Floats, groups: Ints, q: float, level: float) -> Interval | str:
    n, clusters = len(values), _count(groups)
    if clusters < 2:
        return ONE_CLUSTER
    point = np.quantile(ordered, q)
    below = (values <= point).astype(np.float64)
    if below.all():
        below = (values < point).astype(np.float64)
    half = _t(level, clusters) * math.sqrt(q * (1 - q) / effective_size(below, groups))
    low, high = math.floor(n * (q - half)), math.ceil(n * (q + half)) + 1
    if low < 1 or high > n:
        return f"{clusters} clusters cannot bound the {q:g} quantile at level {level:g}; more are needed"
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]), "cluster-woodruff", level)


def _count(groups: Ints) -> int:
    return int(groups.max()) + 1


def _t(level: float, clusters: int) -> float:
    return float(scipy.stats.t.ppf((1 + level) / 2, clusters - 1))
