"""Statistical power of a pair of evaluations, and the additional samples that a smaller effect needs.

The minimum detectable effect is ``MDE = (z_α + z_β) · sd(d) / √n`` (Cohen 1988), with the standard deviation of the
*actual* differences, clusters included, so that two models that agree on most samples need few of them.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from clerestory.stats.paired import Difference
from clerestory.stats.scientific import scipy

Sides = Literal[1, 2]
POWER = 0.8


class AdditionalSamples(NamedTuple):
    """How many more samples are needed; 0 where there are enough.

    Attributes:
        rows: more rows, with as many per cluster as now.
        clusters: more clusters, which these rows must form.
    """

    rows: int
    clusters: int


def effect_in_errors(alpha: float = 0.05, power: float = POWER, sides: Sides = 2) -> float:
    """``z_α + z_β``: the effect, in standard errors, that is detected with that power."""
    return float(scipy.special.ndtri(1 - alpha / sides) + scipy.special.ndtri(power))


def minimum_detectable_effect(
    difference: Difference, alpha: float = 0.05, power: float = POWER, sides: Sides = 2
) -> float | None:
    """The smallest true difference that such a comparison detects with that power.

    None where it is unknown, or would be larger than any difference of such scores.
    """
    effect = effect_in_errors(alpha, power, sides) * difference.error
    return effect if difference.sd > 0 and effect <= difference.limit else None


def additional_samples(
    difference: Difference, effect: float, alpha: float = 0.05, power: float = POWER, sides: Sides = 2
) -> AdditionalSamples | None:
    """The additional rows and clusters with which ``effect`` becomes detectable; None where unknown.

    Raises:
        ValueError: an effect that is not above 0.
    """
    if effect <= 0:
        raise ValueError(f"the effect {effect:g} is not above 0")
    if difference.sd <= 0:
        return None
    rows = math.ceil((effect_in_errors(alpha, power, sides) * difference.sd / effect) ** 2)
    clusters = math.ceil(rows * difference.clusters / difference.n)
    return AdditionalSamples(max(0, rows - difference.n), max(0, clusters - difference.clusters))
