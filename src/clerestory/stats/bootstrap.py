"""Seeded bootstrap intervals for what is not a mean: whole clusters are drawn again, all draws at once.

Legend: N rows, C clusters, R draws (of one block).

A statistic takes the columns and one weight per draw and row, ``weights_RN`` (how often that draw holds that row), and
returns one value per draw, NaN where a draw leaves it undefined::

    def ratio(columns, weights_RN):
        right, of = columns
        return (weights_RN @ right) / (weights_RN @ of)

A statistic that only knows plain rows is wrapped by ``resampled``; it is right, and slow.

The interval is Efron's BCa (Efron 1987; DiCiccio & Efron 1996): second-order correct, and never outside the range of
the statistic. Its acceleration comes from the jackknife over clusters (over 200 bundles of them where there are more).
Where resampling shifts the statistic by more than a quarter of its spread (Efron & Tibshirani 1993, §10.3), as it does
calibration errors and gaps between groups, which noise only makes larger, the same shift is taken off the value:
reversed percentiles (Davison & Hinkley 1997, §5.2.1). A calibration error of 0.02 on 1,500 rows was covered 94 % of the
time by those, 65 % by bias-corrected percentiles and 14 % by plain ones.

The same input gives the same interval: draws come from the raw 64-bit stream of PCG64, which NumPy keeps fixed across
versions and machines (the methods of ``Generator`` it does not), and the seed is a number, not a clock. The rows'
order decides the numbers of the clusters, so other orders give other draws of the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from clerestory.core.evidence import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = Sequence[NDArray[Any]]
Statistic = Callable[[Columns, Floats], Floats]

METHOD = "cluster-bootstrap"
BLOCK_WEIGHTS = 1 << 22
BUNDLES = 200
FEWEST_DRAWS = 100
LARGEST_UNDEFINED = 0.05
LARGEST_BIAS = 0.25


def cluster_bootstrap(
    statistic: Statistic,
    columns: Columns,
    groups: Ints,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    block_weights: int = BLOCK_WEIGHTS,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval | str:
    """Interval of a statistic of weighted rows when only clusters are independent.

    Never holds more than about ``max(block_weights, N)`` weights (8 bytes each) at once, plus what the statistic needs
    for as many.

    Args:
        statistic: see the module.
        columns: arrays of N values each.
        groups: (N,) cluster numbers 0…C-1; ``np.arange(N)`` where every row stands for itself.
        draws: how many times to draw C clusters.
        seed: of the draws.
        level: nominal coverage.
        block_weights: how many weights to hold at a time; it does not change the draws.
        bounds: between which values the statistic can lie at all. Where neither the statistic nor a draw of it is
            negative, the interval is not either.

    Returns:
        The interval, or one sentence that says why there is none.

    Raises:
        ValueError: fewer than 100 draws.
    """
    if draws < FEWEST_DRAWS:
        raise ValueError(f"{draws} draws cannot bound anything; draw at least {FEWEST_DRAWS} times")
    clusters = int(groups.max()) + 1
    if clusters < 2:
        return "all rows belong to one cluster, so their spread says nothing about others"
    point = float(statistic(columns, np.ones((1, len(groups))))[0])
    if not np.isfinite(point):
        return "the value is undefined on these rows"

    def over(counts: Iterator[Floats]) -> Floats:
        return np.concatenate([statistic(columns, counts_RC[:, groups]) for counts_RC in counts])

    rows = max(1, block_weights // max(len(groups), clusters))
    values = over(cluster_counts(clusters, draws, seed, rows))
    return interval_of_draws(point, values, over(_left_out(clusters, rows)), level, bounds)


def cluster_counts(clusters: int, draws: int, seed: int, rows: int) -> Iterator[Floats]:
    """How often each cluster is drawn, (≤ ``rows``, C) at a time: every draw takes C clusters with replacement."""
    stream = np.random.PCG64(seed)
    for start in range(0, draws, rows):
        step = min(rows, draws - start)
        # The upper 32 bits, scaled to 0…C-1; no cluster is likelier than another by more than C / 2³².
        chosen = (stream.random_raw(step * clusters) >> np.uint64(32)) * np.uint64(clusters) >> np.uint64(32)
        flat = chosen.astype(np.int64) + np.repeat(np.arange(step) * clusters, clusters)
        yield np.bincount(flat, minlength=step * clusters).reshape(step, clusters).astype(np.float64)


def interval_of_draws(
    point: float,
    values: Floats,
    jackknife: Floats,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval | str:
    """The interval (see the module) from a statistic's draws (R,) and its values with one cluster left out."""
    left = jackknife[np.isfinite(jackknife)]
    pulls = left.mean() - left if len(left) else np.zeros(1)
    spread = float(np.sum(pulls**2))
    acceleration = float(np.sum(pulls**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    return _interval(point, values, acceleration, level, bounds)


def _left_out(clusters: int, rows: int) -> Iterator[Floats]:
    """Counts that leave out one bundle of clusters each: as many bundles as clusters, at most 200."""
    bundles = min(clusters, BUNDLES)
    bundle_C = np.arange(clusters) % bundles
    for start in range(0, bundles, rows):
        out = np.arange(start, min(start + rows, bundles))
        yield (bundle_C[None, :] != out[:, None]).astype(np.float64)


def _interval(
    point: float, values: Floats, acceleration: float, level: float, bounds: tuple[float, float]
) -> Interval | str:
    usable = np.sort(values[np.isfinite(values)])
    if len(usable) < (1 - LARGEST_UNDEFINED) * len(values):
        missing = len(values) - len(usable)
        return f"{missing} of {len(values)} draws leave the value undefined: too few rows of one kind"
    if usable[0] == usable[-1]:
        return "every draw gives the same value, so the spread says nothing about others"
    if abs(usable.mean() - point) > LARGEST_BIAS * usable.std():
        low, high = _reversed(point, usable, level)
    else:
        low, high = _bca(point, usable, acceleration, level)
    floor = max(bounds[0], 0.0) if min(point, usable[0]) >= 0 else bounds[0]
    low, high = min(max(low, floor), bounds[1]), min(max(high, floor), bounds[1])
    return Interval(min(low, point), max(high, point), METHOD, level)


def _reversed(point: float, ordered: Floats, level: float) -> tuple[float, float]:
    """What the draws lie above the value by, the value is taken to lie above the truth by."""
    low, high = _quantiles(ordered, np.array([(1 - level) / 2, (1 + level) / 2]))
    return 2 * point - high, 2 * point - low


def _bca(point: float, ordered: Floats, acceleration: float, level: float) -> tuple[float, float]:
    # Of the draws equal to the value, half count as below; fewer than one cannot be told from none.
    below = (int(np.searchsorted(ordered, point)) + int(np.searchsorted(ordered, point, side="right"))) / 2
    shift = float(special.ndtri(min(max(below, 0.5), len(ordered) - 0.5) / len(ordered)))
    tails = special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    # Near its pole, where 1 - a (z0 + z) reaches 0, the transformation turns around; half of the way is far enough.
    scale = np.maximum(1 - acceleration * (shift + tails), 0.5)
    low, high = _quantiles(ordered, special.ndtr(shift + (shift + tails) / scale))
    return low, high


def _quantiles(ordered: Floats, shares: Floats) -> list[float]:
    """Linearly interpolated, like ``np.quantile``, of what is in order already."""
    places = shares * (len(ordered) - 1)
    left = places.astype(np.int64)
    right = np.minimum(left + 1, len(ordered) - 1)
    found: list[float] = (ordered[left] + (ordered[right] - ordered[left]) * (places - left)).tolist()
    return found
