"""What a pair of evaluations could have seen, and how many more samples it takes to see more.

The minimum detectable effect is ``MDE = (z_α + z_β) · sd(d) / √n`` (Cohen 1988), with the spread of the *real* pair's
differences, clusters included, so that two models that agree on most samples need few of them.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from scipy import special

from clerestory.stats.paired import Difference

Sides = Literal[1, 2]
POWER = 0.8


class Needed(NamedTuple):
    """How many more samples it takes: nought where there are enough.

    Attributes:
        rows: more rows, of as many to a cluster as now.
        clusters: more clusters, which those rows must form.
    """

    rows: int
    clusters: int


def reach(alpha: float = 0.05, power: float = POWER, sides: Sides = 2) -> float:
    """``z_α + z_β``: how many standard errors an effect must measure to be seen with that power."""
    return float(special.ndtri(1 - alpha / sides) + special.ndtri(power))


def minimum_detectable(
    difference: Difference, alpha: float = 0.05, power: float = POWER, sides: Sides = 2
) -> float | None:
    """The smallest true difference that such a comparison would call one, with that power; None where it is unknown."""
    return reach(alpha, power, sides) * difference.error if difference.sd > 0 else None


def needed(
    difference: Difference, effect: float, alpha: float = 0.05, power: float = POWER, sides: Sides = 2
) -> Needed | None:
    """How many more rows and clusters bring the minimum detectable effect down to ``effect``; None where unknown.

    Raises:
        ValueError: an effect that is not above 0.
    """
    if effect <= 0:
        raise ValueError(f"an effect of {effect:g} needs no end of samples; give one above 0")
    if difference.sd <= 0:
        return None
    rows = math.ceil((reach(alpha, power, sides) * difference.sd / effect) ** 2)
    clusters = math.ceil(rows * difference.clusters / difference.n)
    return Needed(max(0, rows - difference.n), max(0, clusters - difference.clusters))
