"""Could a benchmark be solved without looking? How its items behave over repetitions, views and models.

Dimensions: I items, P repetitions of an item (cyclic permutations of its options, say), M models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clerestory.core.errors import InputError
from clerestory.core.evidence import Interval
from clerestory.stats.intervals import mean_interval, share_interval

Floats = NDArray[np.float64]


class Share(NamedTuple):
    """A share of the items.

    Attributes:
        value: the share.
        interval: its interval over items (each its own cluster), or the reason why there is none.
        n: how many items it rests on.
    """

    value: float
    interval: Interval | str
    n: int


def blind_solvable(blind: ArrayLike, chance: ArrayLike, level: float = 0.95) -> Share:
    """The share of items that language alone solves, corrected for guessing.

    A model that knows the answer to a share s of the items and guesses the others at their chance level c is right on
    s + (1 − s) · c of them, so (right − c) / (1 − c) of an item, averaged over repetitions and items, is an unbiased
    estimate of s (Abbott's correction). Luck may take it slightly below 0; it is not cut off, because that would bias
    it. Repetitions of one item are no further items: the interval is over items. A model that always gives the same
    wrong answer to an item it does not know, wherever the option stands, is below chance on it; permuting the options
    turns a preference for a *place* back into chance, but not one for a *text*.

    Args:
        blind: (I, P) or (I,), 1 = right without the picture; NaN where a repetition is unscored.
        chance: (I,) or one number for all: the chance of guessing right, below 1.
        level: of the interval.

    Raises:
        InputError: nothing is scored, a score is not in 0…1, or a chance level outside 0…1.
    """
    right_IP, scored_I = _items(blind)
    chance_I = np.broadcast_to(np.asarray(chance, dtype=np.float64), len(right_IP))
    if not ((chance_I >= 0) & (chance_I < 1)).all():
        raise InputError("a chance level lies outside 0…1, or is 1", "give each item 1 / its number of options")
    corrected_I = (_means(right_IP)[scored_I] - chance_I[scored_I]) / (1 - chance_I[scored_I])
    return _share(corrected_I, level)


def blind_gain(full: ArrayLike, blind: ArrayLike, level: float = 0.95) -> Share:
    """How much the picture adds: accuracy with it minus accuracy without, paired by item.

    Args:
        full: (I, P) or (I,), 1 = right with the picture; NaN where unscored.
        blind: the same without it; the number of repetitions may differ.
        level: of the interval.

    Raises:
        InputError: different items, or none that is scored in both views.
    """
    (full_IP, seen_I), (blind_IP, unseen_I) = _items(full), _items(blind)
    if len(full_IP) != len(blind_IP):
        raise InputError(f"{len(full_IP)} items with and {len(blind_IP)} without the picture", "give the same items")
    both_I = seen_I & unseen_I
    if not both_I.any():
        raise InputError("no item is scored both with and without its picture", "evaluate both views")
    return _share(_means(full_IP)[both_I] - _means(blind_IP)[both_I], level)


def unanimous(right: ArrayLike, level: float = 0.95) -> tuple[Share, Share]:
    """The shares of items that nobody and that everybody solves, and that therefore tell no models apart.

    Args:
        right: (I, M), 1 = right, one column per model or condition; NaN where unscored.
        level: of the intervals.

    Raises:
        InputError: nothing is scored, or a score is not in 0…1.
    """
    right_IM, scored_I = _items(right)
    means_I = _means(right_IM)[scored_I]
    return _share((means_I == 0).astype(np.float64), level), _share((means_I == 1).astype(np.float64), level)


def _items(right: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """As (I, P), and which items are scored at all."""
    values = np.asarray(right, dtype=np.float64)
    right_IP = values[:, None] if values.ndim == 1 else values
    if right_IP.ndim != 2 or np.isnan(right_IP).all():
        raise InputError("no item is scored", "evaluate the model on the items first")
    if ((right_IP < 0) | (right_IP > 1)).any():
        raise InputError("a score lies outside 0…1", "give 1 for right and 0 for wrong")
    scored_I = np.asarray(~np.isnan(right_IP).all(axis=1), dtype=np.bool_)
    return right_IP, scored_I


def _means(right_IP: Floats) -> Floats:
    """Mean over the scored repetitions; NaN where there is none."""
    scored_I = (~np.isnan(right_IP)).sum(axis=1)
    sums_I = np.nansum(right_IP, axis=1)
    found: Floats = np.divide(sums_I, scored_I, out=np.full(len(sums_I), np.nan), where=scored_I > 0)
    return found


def _share(values_I: Floats, level: float) -> Share:
    binary = bool(np.isin(values_I, (0.0, 1.0)).all())
    interval = (share_interval if binary else mean_interval)(values_I, np.arange(len(values_I)), level)
    return Share(float(values_I.mean()), interval, len(values_I))
