"""From per-sample rows to measurements, by recipes that anyone can recompute.

``rows`` is a table as columns: a mapping from names to equally long arrays, text columns as strings and number
columns as numbers. An empty number (NaN or None) means *unscored*: such a row is left out and ``n`` says how many
were scored, so a missing answer is not a score of 0. The statistics are in ``clerestory.stats.statistics``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.errors import ConfigError, InputError, not_found
from clerestory.core.evidence import Interval, Measurement, Recipe
from clerestory.stats.metrics import metric
from clerestory.stats.statistics import STATISTICS, SelectedRows, Statistic

Rows = Mapping[str, NDArray[Any]]
ANY = "*"


class Aggregate(NamedTuple):
    """The result of a recipe.

    Attributes:
        value: the number.
        n: the number of scored rows.
        clusters: the number of clusters they form; None where the recipe names no cluster column.
        interval: its confidence interval, or None.
        no_interval: why there is no interval; empty when there is one.
    """

    value: float
    n: int
    clusters: int | None
    interval: Interval | None
    no_interval: str


def aggregate(rows: Rows, recipe: Recipe, level: float = 0.95, bounds: tuple[float, float] | None = None) -> Aggregate:
    """Compute one recipe over the rows.

    The recipe's ``where`` selects the rows whose columns equal its values; the value ``*`` stands for anything but an
    empty text, so that ``severity=*`` is every corrupted image. Sums are exactly rounded (``math.fsum``) and draws are
    seeded, so the same rows give the same numbers.

    Args:
        rows: per-sample rows.
        recipe: how to compute it.
        level: nominal coverage of the interval.
        bounds: the range of the averaged values by their meaning (``Metric.value_range``): 0…1 for shares, a negative
            lower bound for differences, None for none. It decides the kind of interval, never the values themselves.

    Raises:
        NotFound: unknown column or statistic.
        InputError: no scored row remains, or the rows do not allow the statistic (one class only, too few groups).
        ConfigError: a recipe that the statistic cannot use: a quantile outside 0…1, no second column.
    """
    if recipe.statistic not in STATISTICS:
        raise not_found("statistic", recipe.statistic, STATISTICS)
    statistic = STATISTICS[recipe.statistic]
    selected = dataclasses.replace(_select(rows, recipe, statistic, level), bounds=bounds)
    value, interval = statistic.compute(selected)
    clusters = int(selected.groups.max()) + 1 if recipe.cluster else None
    if isinstance(interval, Interval):
        return Aggregate(value, len(selected.values), clusters, interval, "")
    return Aggregate(value, len(selected.values), clusters, None, interval)


def measure(
    rows: Rows,
    recipe: Recipe,
    name: str,
    slice: Mapping[str, str] | None = None,
    *,
    unit: str = "",
    level: float = 0.95,
) -> Measurement:
    """Compute one metric by a recipe; unit and direction come from the metric registry.

    Args:
        rows: per-sample rows.
        recipe: how to compute it.
        name: of the metric, such as ``recall@10``.
        slice: of the measurement; the recipe's ``where`` by default.
        unit: where the registry cannot know it: the currency of a cost, or the unit of an unregistered metric.
        level: nominal coverage of the interval.

    Raises:
        ConfigError: neither the registry nor ``unit`` gives a unit.
    """
    known = metric(name)
    if not unit and not known.registered:
        raise ConfigError(f"the metric {name!r} is not registered", "register it in stats/metrics.py, or pass its unit")
    bounds = (known if known.registered else dataclasses.replace(known, unit=unit)).value_range
    value, n, clusters, interval, reason = aggregate(rows, recipe, level, bounds)
    where = recipe.where if slice is None else Tags(slice)
    return Measurement(name, value, unit or known.unit, n, interval, reason, where, known.direction, clusters, recipe)


def recompute(rows: Rows, claimed: Measurement) -> Measurement:
    """A measurement recomputed from the rows; equal to ``claimed`` if that follows from them.

    Raises:
        InputError: the measurement has no recipe, or the rows lack what it needs.
    """
    if claimed.recipe is None:
        raise InputError(f"{claimed.key} has no recipe", "evaluate the model again")
    level = claimed.interval.level if claimed.interval else 0.95
    known = metric(claimed.name)
    bounds = (known if known.registered else dataclasses.replace(known, unit=claimed.unit)).value_range
    value, n, clusters, interval, reason = aggregate(rows, claimed.recipe, level, bounds)
    return dataclasses.replace(claimed, value=value, n=n, clusters=clusters, interval=interval, no_interval=reason)


def _select(rows: Rows, recipe: Recipe, statistic: Statistic, level: float) -> SelectedRows:
    """The scored rows of the recipe and its statistic."""
    # float64 turns the None of an object column into NaN.
    values = _column(rows, recipe.column).astype(np.float64)
    keep = ~np.isnan(values)
    for name, wanted in recipe.where.items():
        column = _column(rows, name)
        keep &= np.asarray(column != "") if wanted == ANY else np.asarray(column == wanted)
    against, pair = _against(rows, recipe, statistic)
    more = {name: _column(rows, name) for name, _ in statistic.more}
    if statistic.against == "numbers":
        keep &= ~np.isnan(against)
    for name, holds in statistic.more:
        if holds == "numbers":
            more[name] = more[name].astype(np.float64)
            keep &= ~np.isnan(more[name])
    _require(keep, recipe)
    groups = np.zeros(int(keep.sum()), dtype=np.int64)
    chosen = SelectedRows(
        values[keep],
        against[keep] if len(against) else against,
        groups,
        recipe.parameter,
        pair,
        {name: column[keep] for name, column in more.items()},
        level,
    )
    if statistic.narrow:
        narrowed = statistic.narrow(chosen)
        keep[keep] = narrowed
        _require(keep, recipe)
        chosen = dataclasses.replace(
            chosen,
            values=chosen.values[narrowed],
            against=chosen.against[narrowed],
            more={name: column[narrowed] for name, column in chosen.more.items()},
        )
    return dataclasses.replace(chosen, groups=_groups(rows, recipe, keep))


def _against(rows: Rows, recipe: Recipe, statistic: Statistic) -> tuple[NDArray[Any], tuple[str, str]]:
    """The second column in the type that the statistic takes, and the two values of a contrast."""
    if statistic.against == "nothing":
        return np.array([]), ("", "")
    if not recipe.against:
        raise ConfigError(f"the statistic {recipe.statistic} needs a second column", "name it in the recipe's against")
    if statistic.against == "contrast":
        parts = recipe.against.split(":", 2)
        if len(parts) != 3 or not parts[1] or parts[1] == parts[2]:
            raise ConfigError(
                f"{recipe.against!r} is not a contrast", "write it as column:first:second, with two different values"
            )
        return _column(rows, parts[0]), (parts[1], parts[2])
    column = _column(rows, recipe.against)
    return (column.astype(np.float64) if statistic.against == "numbers" else column), ("", "")


def _require(keep: NDArray[np.bool_], recipe: Recipe) -> None:
    if not keep.any():
        where = f" where {recipe.where}" if recipe.where else ""
        columns = " and ".join(name for name in (recipe.column, recipe.against) if name)
        raise InputError(f"no row has a {columns}{where}", "evaluate the model on data that has such samples")


def _column(rows: Rows, name: str) -> NDArray[Any]:
    if name not in rows:
        raise not_found("column", name, rows)
    return np.asarray(rows[name])


def _groups(rows: Rows, recipe: Recipe, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One cluster number per selected row, in the order of first appearance."""
    if not recipe.cluster:
        return np.arange(int(keep.sum()))
    names = _column(rows, recipe.cluster)[keep].tolist()
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
