"""The statistics of recipes: from the selected rows to a value and its interval.

| name | column | against | parameter | interval |
|---|---|---|---|---|
| ``mean`` | any number | | | ``cluster-t``, ``cluster-wilson`` for shares |
| ``share_at_most`` | any number | | k | as a share |
| ``quantile`` | any number | | q | ``order-statistics``, ``cluster-woodruff`` |
| ``ratio`` | numerator | denominator | factor, 0 → 1 | linearised |
| ``chance_corrected`` | 0…1, 1 = correct | each row's chance level | | linearised |
| ``contrast`` | any number | ``column:first:second`` | | linearised |
| ``paired`` | one model's score | the other's | | ``clerestory.stats.paired`` |
| ``mean_of_groups`` | any number | group column | | linearised |
| ``mce``, ``relative_mce`` | 0…1, 1 = correct | corruption column | | linearised |
| ``ece_width``, ``ece_mass`` | confidence | 0…1, 1 = correct | bins, 0 → 15 | bootstrap |
| ``auroc``, ``aupr_in``, ``aupr_out``, ``fpr95`` | score | 1 in-, 0 out-of-distribution | | bootstrap |
| ``correlation`` | any number | any number | | bootstrap |
| ``worst_group``, ``largest_gap`` | any number | group column | n_min, 0 → 10 | joint bootstrap |
| ``equalised_odds`` | any number: which rows are scored | group column | n_min, 0 → 10 | joint bootstrap |

- *linearised*: each row's influence on the value, summed over clusters, with t on C − 1 degrees of freedom (method
  ``cluster-t``); *bootstrap*: ``clerestory.stats.bootstrap``; *joint bootstrap*: ``cluster-bootstrap-sup``, whose
  interval can include 0 where all groups are alike.
- ``contrast`` is the mean where the column equals ``first`` minus that where it equals ``second``; clusters with
  rows in both are paired, so that shared variance does not widen the interval. ``chance_corrected`` is the mean of
  (x − c) / (1 − c).
- ``mean_of_groups`` gives every group the same weight. ``mce`` uses the rows that have a ``severity``, and needs the
  baseline's score of each row in the column ``reference``; ``relative_mce`` also uses those whose corruption is
  ``clean``.
- ``equalised_odds`` reads the columns ``answer`` and ``target``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import ConfigError, InputError
from clerestory.core.evidence import Interval
from clerestory.core.rows import Condition
from clerestory.stats.bootstrap import (
    BLOCK_WEIGHTS,
    MAX_UNDEFINED,
    NO_VARIANCE_OF_DRAWS,
    Columns,
    cluster_bootstrap,
    cluster_counts,
)
from clerestory.stats.calibration import BINS, bin_edges, bin_numbers, checked
from clerestory.stats.fairness import N_MIN, NO_GROUP, GroupCodes, OddsCells, group_means, split_groups
from clerestory.stats.intervals import NO_VARIANCE, ONE_CLUSTER, mean_interval, quantile_interval, share_interval
from clerestory.stats.ood import DetectionCurve
from clerestory.stats.paired import is_binary, paired_difference
from clerestory.stats.robustness import check_reference
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Estimate = tuple[float, Interval | str]

SHARE, SIGNED = (0.0, 1.0), (-1.0, 1.0)
CLEAN = Condition.CLEAN
SEVERITY = "severity"
REFERENCE = "reference"
# A curve reads its weights several times: a block that fits the CPU cache is twice as fast.
CURVE_WEIGHTS = 1 << 16
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """The rows of a recipe.

    Attributes:
        values: (N,) the recipe's column.
        against: (N,) its second column: numbers or texts, as the statistic requires; empty where it takes none.
        groups: (N,) cluster numbers.
        parameter: the recipe's.
        pair: the two values of a ``contrast``.
        more: (N,) further columns that the statistic reads by name.
        level: nominal coverage of the interval.
        bounds: the range of the averaged values by their meaning, None for none.
    """

    values: Floats
    against: NDArray[Any]
    groups: Ints
    parameter: float
    pair: tuple[str, str]
    more: Mapping[str, NDArray[Any]]
    level: float
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Statistic:
    """One entry of the registry.

    Attributes:
        compute: the value and its interval, or why there is none.
        against: the type of the second column.
        more: further columns it reads: numbers that a scored row must have, or texts.
        narrow: selects among the scored rows; all when None.
    """

    compute: Callable[[SelectedRows], Estimate]
    against: Literal["nothing", "numbers", "texts", "contrast"] = "nothing"
    more: tuple[tuple[str, Literal["numbers", "texts"]], ...] = ()
    narrow: Callable[[SelectedRows], Bools] | None = None


def _mean(rows: SelectedRows) -> Estimate:
    value = math.fsum(rows.values) / len(rows.values)
    if rows.bounds == SIGNED and not rows.values.any():
        # No row changed: how much could have changed nevertheless, on both sides of 0.
        unchanged = paired_difference(rows.values, rows.values, rows.groups, rows.level)
        return value, unchanged.interval or unchanged.no_interval
    # A mean of zeros and ones is a share and gets the interval of a share, if its meaning allows no other values.
    is_share = rows.bounds == SHARE and is_binary(rows.values)
    return value, (share_interval if is_share else mean_interval)(rows.values, rows.groups, rows.level)


def _share_at_most(rows: SelectedRows) -> Estimate:
    hits = (rows.values <= rows.parameter).astype(np.float64)
    return math.fsum(hits) / len(hits), share_interval(hits, rows.groups, rows.level)


def _quantile(rows: SelectedRows) -> Estimate:
    if not 0 < rows.parameter < 1:
        raise ConfigError(f"the quantile {rows.parameter:g} is outside 0…1", "use 0.5 for the median")
    value = float(np.quantile(rows.values, rows.parameter))
    return value, quantile_interval(rows.values, rows.groups, rows.parameter, rows.level)


def _ratio(rows: SelectedRows) -> Estimate:
    below = math.fsum(rows.against)
    if below <= 0:
        raise InputError(
            f"the denominator of the ratio is {below:g}", "give rows whose denominators add up to more than 0"
        )
    ratio = math.fsum(rows.values) / below
    factor = rows.parameter or 1.0
    influence_N = factor * (rows.values - ratio * rows.against) / below
    return factor * ratio, linearised(factor * ratio, influence_N, rows)


def _chance_corrected(rows: SelectedRows) -> Estimate:
    if not ((rows.against >= 0) & (rows.against < 1)).all():
        raise InputError("a chance level is outside 0…1, or is 1", "give each row 1 / its number of options")
    corrected = replace(rows, values=(rows.values - rows.against) / (1 - rows.against), bounds=None)
    value, interval = _mean(corrected)
    chance = float(rows.against[0])
    if is_binary(rows.values) and not np.ptp(rows.against):
        # With one chance level it is a share on another scale, whose interval is known for few hits or misses, too.
        share = share_interval(rows.values, rows.groups, rows.level)
        if isinstance(share, Interval):
            low, high = ((bound - chance) / (1 - chance) for bound in (share.low, share.high))
            return value, Interval(min(low, value), max(high, value), share.method, rows.level)
    return value, interval


def _paired(chosen: SelectedRows) -> Estimate:
    found = paired_difference(chosen.values, chosen.against, chosen.groups, chosen.level)
    return found.value, found.interval or found.no_interval


def _contrast(rows: SelectedRows) -> Estimate:
    first, second = (np.asarray(rows.against == name) for name in rows.pair)
    for name, chosen in zip(rows.pair, (first, second), strict=True):
        if not chosen.any():
            raise InputError(f"no scored row is {name!r}, so there is no contrast", "evaluate the model on both")
    parts = [_centred(rows.values, chosen) for chosen in (first, second)]
    value = parts[0][0] - parts[1][0]
    return value, linearised(value, parts[0][1] - parts[1][1], rows)


def _mean_of_groups(rows: SelectedRows) -> Estimate:
    names = sorted(set(rows.against.tolist()))
    parts = [_centred(rows.values, np.asarray(rows.against == name)) for name in names]
    value = math.fsum(mean for mean, _ in parts) / len(parts)
    influence_N = np.sum([influence for _, influence in parts], axis=0) / len(parts)
    return value, linearised(value, influence_N, rows, rows.bounds)


def _mce(rows: SelectedRows) -> Estimate:
    return _corruption_ratio(rows, relative=False)


def _relative_mce(rows: SelectedRows) -> Estimate:
    return _corruption_ratio(rows, relative=True)


def _corruption_ratio(rows: SelectedRows, relative: bool) -> Estimate:
    """The mean over corruptions of error / baseline's error, each minus its clean error when ``relative``."""
    errors_N, reference_N = 1 - rows.values, 1 - rows.more[REFERENCE]
    names = sorted(set(rows.against.tolist()) - {CLEAN})
    clean = np.asarray(rows.against == CLEAN)
    if not names or (relative and not clean.any()):
        missing = "clean" if names else "corrupted"
        raise InputError(f"no scored row is {missing}", "evaluate the model on clean and on corrupted images")
    ratios, influence_N = [], np.zeros(len(errors_N))
    for name in names:
        chosen = np.asarray(rows.against == name)
        (above, above_N), (below, below_N) = _centred(errors_N, chosen), _centred(reference_N, chosen)
        if relative:
            (base, base_N), (other, other_N) = _centred(errors_N, clean), _centred(reference_N, clean)
            above, above_N, below, below_N = above - base, above_N - base_N, below - other, below_N - other_N
        check_reference(below, name, relative)
        ratios.append(above / below)
        influence_N += (above_N - above / below * below_N) / below / len(names)
    value = math.fsum(ratios) / len(ratios)
    return value, linearised(value, influence_N, rows)


def _ece(kind: Literal["width", "mass"]) -> Callable[[SelectedRows], Estimate]:
    def compute(rows: SelectedRows) -> Estimate:
        confidence_N, correct_N = checked(rows.values, rows.against)
        bins = int(rows.parameter) or BINS
        # Every draw uses the bins of all rows.
        numbers = bin_numbers(confidence_N, bin_edges(confidence_N, bins, kind))
        gaps = scipy.sparse.csr_matrix(
            (confidence_N - correct_N, (np.arange(len(numbers)), numbers)), (len(numbers), bins)
        )

        def error(columns: Columns, weights_RN: Floats) -> Floats:
            found: Floats = np.abs(weights_RN @ gaps).sum(axis=1) / weights_RN.sum(axis=1)
            return found

        return _drawn(error, rows)

    return compute


def _curve(name: Literal["auroc", "aupr", "fpr95"], opposite: bool = False) -> Callable[[SelectedRows], Estimate]:
    def compute(rows: SelectedRows) -> Estimate:
        # Sorted by the scores once instead of in every draw.
        order = np.argsort(rows.values if opposite else -rows.values, kind="stable")
        rows = replace(rows, values=rows.values[order], against=rows.against[order], groups=rows.groups[order])
        curve = DetectionCurve(rows.values, rows.against)
        method: Callable[[Floats], Floats] = getattr(curve.opposite() if opposite else curve, name)
        return _drawn(lambda columns, weights_RN: method(weights_RN), rows, CURVE_WEIGHTS)

    return compute


def _correlation(rows: SelectedRows) -> Estimate:
    if np.ptp(rows.values) == 0 or np.ptp(rows.against) == 0:
        raise InputError("one of the two columns is constant, so a correlation is undefined", "give rows that differ")
    # Centred first for numerical precision.
    x_N, y_N = rows.values - rows.values.mean(), rows.against - rows.against.mean()
    columns_N5 = np.column_stack([x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N])

    def pearson(columns: Columns, weights_RN: Floats) -> Floats:
        x, y, xx, yy, xy = (weights_RN @ columns_N5 / weights_RN.sum(axis=1, keepdims=True)).T
        spread = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
        found: Floats = np.divide(xy - x * y, spread, out=np.full(len(x), np.nan), where=spread > 0)
        return found

    return _drawn(pearson, rows, bounds=(-1.0, 1.0))


def _worst_group(rows: SelectedRows) -> Estimate:
    split = _split(rows)
    means_G = group_means(rows.values, split)[0]

    def error(weights_RN: Floats) -> Floats:
        found: Floats = np.abs(group_means(rows.values, split, weights_RN) - means_G).max(axis=1)
        return found

    return float(means_G.min()), _within_error(float(means_G.min()), error, rows, -math.inf)


def _largest_gap(rows: SelectedRows) -> Estimate:
    split = _split(rows)
    means_G = group_means(rows.values, split)[0]

    def error(weights_RN: Floats) -> Floats:
        found: Floats = np.ptp(group_means(rows.values, split, weights_RN) - means_G, axis=1)
        return found

    return float(np.ptp(means_G)), _within_error(float(np.ptp(means_G)), error, rows, 0.0)


def _equalised_odds(rows: SelectedRows) -> Estimate:
    cells = OddsCells(rows.more["answer"], rows.more["target"], _split(rows), _n_min(rows))
    tpr_1GK, fpr_1GK = cells.rates(np.ones((1, len(rows.values))))
    value = float(cells.widest(tpr_1GK, fpr_1GK)[2][0])

    def error(weights_RN: Floats) -> Floats:
        tpr_RGK, fpr_RGK = cells.rates(weights_RN)
        return cells.widest(tpr_RGK - tpr_1GK, fpr_RGK - fpr_1GK)[2]

    return value, _within_error(value, error, rows, 0.0)


def _within_error(value: float, error: Callable[[Floats], Floats], rows: SelectedRows, lowest: float) -> Interval | str:
    """Value ± the 95 % quantile of the draws' errors: ``cluster-bootstrap-sup``.

    The largest of several noisy differences is above 0 even where all groups are alike, in the rows and in every draw,
    so quantiles of its draws never include 0. The largest error of a draw over all groups bounds the error of the
    extreme group, whichever it is (triangle inequality); this is conservative and can include 0.
    """
    clusters = int(rows.groups.max()) + 1
    if clusters < 2:
        return ONE_CLUSTER
    step = max(BLOCK_WEIGHTS // max(len(rows.groups), clusters), 1)
    drawn = cluster_counts(clusters, DRAWS, 0, step)
    errors = np.concatenate([error(counts_RC[:, rows.groups]) for counts_RC in drawn])
    usable = errors[np.isfinite(errors)]
    if len(usable) < (1 - MAX_UNDEFINED) * len(errors):
        return f"{len(errors) - len(usable)} of {len(errors)} draws lack a group, which has too few clusters"
    half = float(np.quantile(usable, rows.level))
    if half == 0.0:
        return NO_VARIANCE_OF_DRAWS
    low, high = rows.bounds or (lowest, math.inf)
    return Interval(max(value - half, low), min(value + half, high), "cluster-bootstrap-sup", rows.level)


def linearised(
    value: float, influence_N: Floats, rows: SelectedRows, within: tuple[float, float] | None = None
) -> Interval | str:
    """Interval of a smooth statistic from each row's influence on it: ``cluster-t`` (Taylor linearisation).

    The variance is C/(C−1) · Σ over clusters of (Σ of its rows' influence)²; for a mean, that of ``mean_interval``.
    """
    sums = np.bincount(rows.groups, weights=influence_N)
    count = len(sums)
    if count < 2:
        return ONE_CLUSTER
    variance = count / (count - 1) * math.fsum(sums * sums)
    # Rounding leaves a small remainder of a variance of 0.
    if variance <= (1e-12 * max(abs(value), 1e-300)) ** 2:
        return NO_VARIANCE
    half = float(scipy.stats.t.ppf((1 + rows.level) / 2, count - 1)) * math.sqrt(variance)
    low, high = within or (-math.inf, math.inf)
    return Interval(max(value - half, min(low, value)), min(value + half, max(high, value)), "cluster-t", rows.level)


def _drawn(
    statistic: Callable[[Columns, Floats], Floats],
    rows: SelectedRows,
    block_weights: int = BLOCK_WEIGHTS,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """The value on all rows, and the bootstrap interval within the statistic's bounds."""
    value = float(statistic((), np.ones((1, len(rows.values))))[0])
    found = cluster_bootstrap(statistic, (), rows.groups, level=rows.level, block_weights=block_weights, bounds=bounds)
    return value, found


def _centred(values_N: Floats, chosen: Bools) -> tuple[float, Floats]:
    """The mean of the chosen rows, and each row's influence on it."""
    count = int(chosen.sum())
    mean = math.fsum(values_N[chosen]) / count
    return mean, np.where(chosen, (values_N - mean) / count, 0.0)


def _n_min(rows: SelectedRows) -> int:
    return int(rows.parameter) or N_MIN


def _split(rows: SelectedRows) -> GroupCodes:
    return split_groups(rows.against, _n_min(rows))


def _large(rows: SelectedRows) -> Bools:
    return _split(rows).codes >= 0


def _named(rows: SelectedRows) -> Bools:
    return np.array([str(name) not in NO_GROUP for name in rows.against.tolist()], dtype=np.bool_)


def _in_pair(rows: SelectedRows) -> Bools:
    chosen: Bools = np.asarray(rows.against == rows.pair[0]) | np.asarray(rows.against == rows.pair[1])
    return chosen


def _corrupted(rows: SelectedRows) -> Bools:
    return np.asarray(rows.more[SEVERITY].astype(str) != "")


def _corrupted_or_clean(rows: SelectedRows) -> Bools:
    chosen: Bools = _corrupted(rows) | np.asarray(rows.against == CLEAN)
    return chosen


_CORRUPTION: tuple[tuple[str, Literal["numbers", "texts"]], ...] = ((REFERENCE, "numbers"), (SEVERITY, "texts"))

STATISTICS: dict[str, Statistic] = {
    "mean": Statistic(_mean),
    "share_at_most": Statistic(_share_at_most),
    "quantile": Statistic(_quantile),
    "ratio": Statistic(_ratio, "numbers"),
    "chance_corrected": Statistic(_chance_corrected, "numbers"),
    "contrast": Statistic(_contrast, "contrast", narrow=_in_pair),
    "paired": Statistic(_paired, "numbers"),
    "mean_of_groups": Statistic(_mean_of_groups, "texts", narrow=_named),
    "mce": Statistic(_mce, "texts", _CORRUPTION, _corrupted),
    "relative_mce": Statistic(_relative_mce, "texts", _CORRUPTION, _corrupted_or_clean),
    "ece_width": Statistic(_ece("width"), "numbers"),
    "ece_mass": Statistic(_ece("mass"), "numbers"),
    "auroc": Statistic(_curve("auroc"), "numbers"),
    "aupr_in": Statistic(_curve("aupr"), "numbers"),
    "aupr_out": Statistic(_curve("aupr", opposite=True), "numbers"),
    "fpr95": Statistic(_curve("fpr95"), "numbers"),
    "correlation": Statistic(_correlation, "numbers"),
    "worst_group": Statistic(_worst_group, "texts", narrow=_large),
    "largest_gap": Statistic(_largest_gap, "texts", narrow=_large),
    "equalised_odds": Statistic(_equalised_odds, "texts", (("answer", "texts"), ("target", "texts")), _large),
}
