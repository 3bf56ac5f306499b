"""From per-sample rows to measurements, by recipes that anyone can follow again.

``rows`` is a table as columns: a mapping from names to equally long arrays, text columns as strings and number
columns as numbers. An empty number (NaN or None) means *unscored*: such a row is left out and ``n`` says how many
were scored, so an answer that never came is not a score of 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.errors import ConfigError, InputError, not_found
from clerestory.core.measure import Direction, Interval, Measurement, Recipe
from clerestory.stats.intervals import mean_interval, quantile_interval, share_interval

Rows = Mapping[str, NDArray[Any]]
STATISTICS = ("mean", "share_at_most", "quantile")


class Aggregate(NamedTuple):
    """What a recipe gives.

    Attributes:
        value: the number.
        n: how many scored rows it was computed from.
        clusters: how many clusters they form; None where the recipe names no cluster column.
        interval: its confidence interval, or None.
        no_interval: why there is no interval; empty when there is one.
    """

    value: float
    n: int
    clusters: int | None
    interval: Interval | None
    no_interval: str


def aggregate(rows: Rows, recipe: Recipe, level: float = 0.95) -> Aggregate:
    """Follow one recipe over the rows.

    ``mean`` is that of all rows; ``share_at_most`` the share of rows whose value is at most the parameter; ``quantile``
    the linearly interpolated one at the parameter (0.5 is the median). Sums are exactly rounded (``math.fsum``).

    Raises:
        NotFound: the rows have no such column, or there is no such statistic.
        InputError: no scored row is left.
        ConfigError: a quantile outside 0…1.
    """
    if recipe.statistic not in STATISTICS:
        raise not_found("statistic", recipe.statistic, STATISTICS)
    keep, values = _scored(rows, recipe)
    groups = _groups(rows, recipe, keep)
    found: Interval | str
    if recipe.statistic == "mean":
        value, found = math.fsum(values) / len(values), _mean(values, groups, level)
    elif recipe.statistic == "share_at_most":
        hits = (values <= recipe.parameter).astype(np.float64)
        value, found = math.fsum(hits) / len(hits), share_interval(hits, groups, level)
    else:
        if not 0 < recipe.parameter < 1:
            raise ConfigError(f"the quantile {recipe.parameter:g} lies outside 0…1", "give 0.5 for the median")
        value = float(np.quantile(values, recipe.parameter))
        found = quantile_interval(values, groups, recipe.parameter, level)
    clusters = int(groups.max()) + 1 if recipe.cluster else None
    if isinstance(found, Interval):
        return Aggregate(value, len(values), clusters, found, "")
    return Aggregate(value, len(values), clusters, None, found)


def measure(
    rows: Rows,
    recipe: Recipe,
    name: str,
    unit: str,
    slice: Mapping[str, str] | None = None,
    direction: Direction = "higher",
    level: float = 0.95,
) -> Measurement:
    """Follow one recipe and give the result its name, unit, slice (the recipe's ``where`` by default) and direction."""
    value, n, clusters, interval, reason = aggregate(rows, recipe, level)
    where = recipe.where if slice is None else Tags(slice)
    return Measurement(name, value, unit, n, interval, reason, where, direction, clusters, recipe)


def recompute(rows: Rows, claimed: Measurement) -> Measurement:
    """The same measurement, computed again from the rows; equal to ``claimed`` when that is true to them.

    Raises:
        InputError: the measurement names no recipe, or the rows do not have what it needs.
    """
    if claimed.recipe is None:
        raise InputError(f"{claimed.key} does not say how it was computed", "evaluate the model again")
    level = claimed.interval.level if claimed.interval else 0.95
    value, n, clusters, interval, reason = aggregate(rows, claimed.recipe, level)
    return dataclasses.replace(claimed, value=value, n=n, clusters=clusters, interval=interval, no_interval=reason)


def _mean(values: NDArray[np.float64], groups: NDArray[np.int64], level: float) -> Interval | str:
    """A mean of noughts and ones is a share, and has the interval of one."""
    binary = bool(np.isin(values, (0.0, 1.0)).all())
    return (share_interval if binary else mean_interval)(values, groups, level)


def _column(rows: Rows, name: str) -> NDArray[Any]:
    if name not in rows:
        raise not_found("column", name, rows)
    return np.asarray(rows[name])


def _scored(rows: Rows, recipe: Recipe) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which rows the recipe uses, and their values."""
    # float64 turns the None of an object column into NaN.
    column = _column(rows, recipe.column).astype(np.float64)
    keep = ~np.isnan(column)
    for name, wanted in recipe.where.items():
        keep &= np.asarray(_column(rows, name) == wanted)
    if not keep.any():
        where = f" where {recipe.where}" if recipe.where else ""
        raise InputError(f"no row has a {recipe.column}{where}", "evaluate the model on data that has such samples")
    return keep, column[keep]


def _groups(rows: Rows, recipe: Recipe, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One cluster number per row that is kept, in the order of first appearance."""
    if not recipe.cluster:
        return np.arange(int(keep.sum()))
    names = _column(rows, recipe.cluster)[keep].tolist()
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
