"""Robustness: reference errors of corruptions, and effective robustness to natural distribution shifts.

Effective robustness is how far a model lies above the line that public models follow (Taori et al. 2020).
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from clerestory.core.errors import InputError, not_found
from clerestory.core.evidence import Interval
from clerestory.stats.scientific import scipy

# With lower values the reference has too few errors to divide by, or the line too poor a fit.
MIN_REFERENCE_ERROR = 0.01
MIN_R2 = 0.8


def check_reference(error: float, corruption: str, relative: bool = False) -> None:
    """Refuse to divide by an error rate below 1 %.

    Raises:
        InputError: it is smaller.
    """
    if error < MIN_REFERENCE_ERROR:
        what = "adds only" if relative else "has an error rate of only"
        raise InputError(
            f"the baseline {what} {error:.1%} under {corruption}, too little to divide by",
            "use a weaker baseline, or the accuracy under corruptions instead",
        )


@dataclass(frozen=True, slots=True)
class RobustnessFit:
    """A line logit(y) = slope · logit(x) + intercept fitted to public models, x and y accuracies.

    Attributes:
        slope, intercept: of the line, both axes as logits.
        r2: coefficient of determination (of logits).
        residual_sd: residual standard deviation, in logits, with n − 2 degrees of freedom.
        n: number of models.
        x_low, x_high: their range of x, as accuracies.
        x_mean, x_spread: mean of logit(x), and Σ (logit(x) − mean)².
    """

    slope: float
    intercept: float
    r2: float
    residual_sd: float
    n: int
    x_low: float
    x_high: float
    x_mean: float
    x_spread: float


class EffectiveRobustness(NamedTuple):
    """Effective robustness.

    Attributes:
        value: accuracy under the shift minus ``expected``.
        interval: of the value, for the sampling error of both accuracies and that of the line.
        expected: accuracy of public models of the same accuracy under the shift.
        scatter: standard deviation of public models around the line there, for comparison with the value.
    """

    value: float
    interval: Interval
    expected: float
    scatter: float


def published_lines() -> dict[str, RobustnessFit]:
    """The lines from ImageNet accuracy to that on other datasets, by name of the shift."""
    return {name: RobustnessFit(**line) for name, line in _published()["lines"].items()}


def source() -> dict[str, str]:
    """The source of the lines: name, URL, licence, SHA-256 of the table, and the method of the fit."""
    return dict(_published()["source"])


def effective_robustness(
    accuracy_in: float, accuracy_shift: float, shift: str, n_in: int, n_shift: int, level: float = 0.95
) -> EffectiveRobustness:
    """Accuracy under a natural shift beyond the one expected from the accuracy on ImageNet (Taori et al. 2020).

    Args:
        accuracy_in: zero-shot accuracy on ImageNet's validation set.
        accuracy_shift: zero-shot accuracy under the shift.
        shift: such as ``imagenet_v2``; ``published_lines()`` has them all.
        n_in: number of images of the first accuracy.
        n_shift: number of images of the second accuracy.
        level: of the interval.

    Raises:
        NotFound: unknown shift.
        InputError: public models do not follow a line there (R² < 0.8), ``accuracy_in`` lies outside theirs, or
            an accuracy, count or level is invalid.
    """
    lines = published_lines()
    if shift not in lines:
        raise not_found("shift", shift, lines)
    line = lines[shift]
    if line.r2 < MIN_R2:
        good = ", ".join(name for name, other in lines.items() if other.r2 >= MIN_R2)
        raise InputError(f"public models follow no line on {shift} (R² = {line.r2:.2f})", f"good fits: {good}")
    if not line.x_low <= accuracy_in <= line.x_high:
        raise InputError(
            f"the accuracy {accuracy_in:.1%} lies outside {line.x_low:.1%}…{line.x_high:.1%}, where {shift} was fitted",
            "effective robustness is undefined for this model; compare the accuracies themselves",
        )
    if not 0 <= accuracy_shift <= 1 or min(n_in, n_shift) < 1 or not 0 < level < 1:
        raise InputError(
            f"no interval for accuracy {accuracy_shift:g} of {n_in} and {n_shift} images at level {level:g}",
            "give an accuracy in 0…1, counts of at least 1, and a level such as 0.95",
        )
    at = float(scipy.special.logit(accuracy_in))
    expected = float(scipy.special.expit(line.slope * at + line.intercept))
    steep = expected * (1 - expected)
    # d expected / d accuracy_in, by the chain rule through both logits.
    carried = line.slope * steep / (accuracy_in * (1 - accuracy_in))
    fit = (line.residual_sd * steep) ** 2 * (1 / line.n + (at - line.x_mean) ** 2 / line.x_spread)
    variance = _binomial(accuracy_shift, n_shift) + carried**2 * _binomial(accuracy_in, n_in) + fit
    value, half = accuracy_shift - expected, float(scipy.special.ndtri((1 + level) / 2)) * math.sqrt(variance)
    return EffectiveRobustness(
        value, Interval(value - half, value + half, "delta-method", level), expected, line.residual_sd * steep
    )


def _binomial(share: float, n: int) -> float:
    """Variance of a share; Agresti and Coull's two more of each keep it from being 0 at the ends."""
    softened = (share * n + 2) / (n + 4)
    return softened * (1 - softened) / (n + 4)


@functools.cache
def _published() -> dict[str, Any]:
    text = resources.files("clerestory.stats").joinpath("effective_robustness.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
