"""How much does a model lose when the pictures change, and is that less than one would expect?

- Corruption errors against a reference model's (Hendrycks & Dietterich 2019).
- Effective robustness: how far a model lies above the line that public models follow (Taori et al. 2020).
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from scipy.special import expit, logit, ndtri

from clerestory.core.errors import InputError, not_found
from clerestory.core.evidence import Interval

# Below these a reference's errors are too few to divide by: the ratio would say more about it than about the model.
MIN_REFERENCE_ERROR = 0.01
MIN_R2 = 0.8


def check_reference(error: float, corruption: str, relative: bool = False) -> None:
    """Refuse to divide by an error rate below 1 %.

    Raises:
        InputError: it is smaller.
    """
    if error < MIN_REFERENCE_ERROR:
        what = "loses only" if relative else "errs in only"
        raise InputError(
            f"the reference {what} {error:.1%} under {corruption}, too little to compare with",
            "take a weaker reference, or look at the accuracy under corruptions instead",
        )


@dataclass(frozen=True, slots=True)
class RobustnessFit:
    """A fitted line logit(y) = slope · logit(x) + intercept over public models, x and y accuracies.

    Attributes:
        slope, intercept: of the line, both axes as logits.
        r2: the share of the variance (of logits) that it explains.
        residual_sd: spread of the models about it, in logits, with n − 2 degrees of freedom.
        n: how many models.
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


class Effective(NamedTuple):
    """Effective robustness.

    Attributes:
        value: accuracy under the shift minus ``expected``.
        interval: of the value, for the sampling error of both accuracies and that of the line.
        expected: what public models of the same accuracy reach under the shift.
        scatter: standard deviation of public models about the line there, to judge the value by.
    """

    value: float
    interval: Interval
    expected: float
    scatter: float


def published_lines() -> dict[str, RobustnessFit]:
    """The lines from ImageNet accuracy to that on other data sets, by name of the shift."""
    return {name: RobustnessFit(**line) for name, line in _published()["lines"].items()}


def source() -> dict[str, str]:
    """Where the lines come from: name, URL, licence, SHA-256 of the table, and how they were fitted."""
    return dict(_published()["source"])


def effective_robustness(
    accuracy_in: float, accuracy_shift: float, shift: str, n_in: int, n_shift: int, level: float = 0.95
) -> Effective:
    """Accuracy under a natural shift beyond what the accuracy on ImageNet lets one expect (Taori et al. 2020).

    Args:
        accuracy_in: zero-shot accuracy on ImageNet's validation set.
        accuracy_shift: zero-shot accuracy under the shift.
        shift: such as ``imagenet_v2``; ``published_lines()`` has them all.
        n_in: how many pictures the first accuracy is from.
        n_shift: how many pictures the second accuracy is from.
        level: of the interval.

    Raises:
        NotFound: there is no such shift.
        InputError: public models do not follow a line there (R² < 0.8), ``accuracy_in`` lies outside theirs, or
            something is no accuracy, count or level.
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
            "effective robustness cannot be told for this model; compare the accuracies themselves",
        )
    if not 0 <= accuracy_shift <= 1 or min(n_in, n_shift) < 1 or not 0 < level < 1:
        raise InputError(
            f"accuracy {accuracy_shift:g} of {n_in} and {n_shift} pictures at level {level:g} makes no interval",
            "give a share, counts of at least 1, and a level such as 0.95",
        )
    at = float(logit(accuracy_in))
    expected = float(expit(line.slope * at + line.intercept))
    steep = expected * (1 - expected)
    # d expected / d accuracy_in, by the chain rule through both logits.
    carried = line.slope * steep / (accuracy_in * (1 - accuracy_in))
    fit = (line.residual_sd * steep) ** 2 * (1 / line.n + (at - line.x_mean) ** 2 / line.x_spread)
    variance = _binomial(accuracy_shift, n_shift) + carried**2 * _binomial(accuracy_in, n_in) + fit
    value, half = accuracy_shift - expected, float(ndtri((1 + level) / 2)) * math.sqrt(variance)
    return Effective(
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
