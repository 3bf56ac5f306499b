"""From a paired difference to an outcome: better, worse, no difference, or inconclusive with the samples it needs.

- ``judge_difference``: is A better than B? The interval excludes 0: ``better`` or ``worse``. It lies within the margin:
  ``no_difference``. Neither: ``inconclusive``, with the number of additional samples that would settle it.
- ``gate_difference``: may A replace B? Shown to be less than the margin worse (non-inferiority): ``pass``.
  Significantly worse: ``fail``. Neither: ``cannot_decide``, with the number of additional samples that would settle it.

Absence of evidence is not evidence of absence: a small test set gives ``inconclusive``, not ``no_difference``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Direction
from clerestory.stats.paired import (
    Difference,
    Floats,
    Ints,
    is_binary,
    mcnemar,
    non_inferiority,
    paired_difference,
)
from clerestory.stats.power import AdditionalSamples, Sides, additional_samples, minimum_detectable_effect
from clerestory.stats.scientific import scipy

Outcome = Literal["better", "worse", "no_difference", "inconclusive"]
GateOutcome = Literal["pass", "fail", "cannot_decide"]


class ComparisonVerdict(NamedTuple):
    """The result of a comparison of A with B.

    Attributes:
        outcome: of A: ``better``, ``worse``, ``no_difference`` or ``inconclusive``.
        additional: how many more samples an inconclusive result needs; None for the others and where it is unknown.
        message: one sentence with the numbers.
    """

    outcome: Outcome
    additional: AdditionalSamples | None
    message: str


class GateResult(NamedTuple):
    """Whether a candidate may replace the live model, on one set of samples.

    Attributes:
        outcome: ``pass``, ``fail`` or ``cannot_decide``.
        additional: how many more samples ``cannot_decide`` needs; None for the others and where it is unknown.
        message: one sentence with the numbers.
        difference: candidate minus live, in the direction of better.
        p: one-sided, of the hypothesis that the candidate is not worse; None where it cannot be computed.
        detectable: the smallest true drop that these rows would detect with a power of 0.8; None where it is unknown.
    """

    outcome: GateOutcome
    additional: AdditionalSamples | None
    message: str
    difference: Difference
    p: float | None
    detectable: float | None


def judge_difference(
    difference: Difference,
    margin: float = 0.01,
    direction: Direction = "higher",
    unit: str = "share",
    names: tuple[str, str] = ("A", "B"),
    p: float | None = None,
) -> ComparisonVerdict:
    """The outcome of a difference of A minus B.

    Args:
        difference: of ``paired_difference(a, b, …)``; its interval's level is the verdict's.
        margin: the largest difference that does not matter.
        direction: which way is better; ``none`` counts as ``higher``.
        unit: of the scores; a ``share`` is written in percentage points.
        names: of A and B.
        p: the difference's p-value adjusted for the other comparisons (``holm``); its own when None. An adjusted one
            can only turn ``better`` or ``worse`` into another outcome.

    Raises:
        ConfigError: a margin that is not above 0.
    """
    _check(margin)
    interval = difference.interval
    ours, theirs = names
    if interval is None:
        message = f"The data cannot show whether {ours} differs from {theirs}: {difference.no_interval}."
        return ComparisonVerdict("inconclusive", None, message)
    numbers = _numbers(difference, unit)
    alpha = 1 - interval.level
    chance = difference.p if p is None else max(p, difference.p or 0.0)
    if chance is not None and chance < alpha:
        up = (difference.centre > 0) == (direction != "lower")
        outcome: Outcome = "better" if up else "worse"
        small = max(-interval.low, interval.high) < margin
        rest = f", by less than a margin of {_amount(margin, unit)}" if small else ""
        return ComparisonVerdict(outcome, None, f"{ours} is {outcome} than {theirs}{rest}: {numbers}.")
    if -margin < interval.low and interval.high < margin:
        rest = f"they differ by less than a margin of {_amount(margin, unit)}"
        return ComparisonVerdict("no_difference", None, f"{ours} is as good as {theirs}; {rest}: {numbers}.")
    additional = _additional(difference, margin, alpha, 2)
    message = f"The data cannot show whether {ours} differs from {theirs}: {numbers}{_requirement(additional)}."
    return ComparisonVerdict("inconclusive", additional, message)


def gate_difference(
    candidate: Floats,
    live: Floats,
    groups: Ints,
    margin: float = 0.01,
    alpha: float = 0.01,
    direction: Direction = "higher",
    unit: str = "share",
) -> GateResult:
    """May the candidate replace the live model?

    ``fail`` is a false alarm with a probability of at most ``alpha`` when the two are equally good; ``pass`` is wrong
    with a probability of at most ``alpha`` when the candidate is worse by the margin. Independent binary pairs are
    tested by the exact one-sided McNemar test, others by the cluster-robust t test. A drop that is significant and yet
    shown to be smaller than the margin passes, and the message says so.

    Args:
        candidate: (N,) scores; NaN where there is none.
        live: (N,) of the same rows.
        groups: (N,) cluster numbers.
        margin: the drop that must not happen, in the scores' unit.
        alpha: the error rate of each outcome.
        direction: which way is better.
        unit: of the scores.

    Raises:
        ConfigError: a margin that is not above 0, or an alpha outside 0…0.5.
        InputError: the rows cannot be paired.
    """
    _check(margin)
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha = {alpha:g} is outside 0…0.5", "choose an error rate such as 0.01")
    # Of scores of which lower is better, live minus candidate is what the candidate gained.
    a, b = (live, candidate) if direction == "lower" else (candidate, live)
    # Both ends of this interval are the one-sided bounds at alpha, so that interval and outcome agree.
    difference = paired_difference(a, b, groups, level=1 - 2 * alpha)
    p = _drop(a, b, difference)
    if difference.interval is None or p is None:
        message = f"The data cannot show whether the candidate is worse: {difference.no_interval}."
        return GateResult("cannot_decide", None, message, difference, None, None)
    numbers, detectable = _numbers(difference, unit), minimum_detectable_effect(difference, alpha, sides=1)
    limit, dropped = _amount(margin, unit), p < alpha
    if non_inferiority(difference, margin, alpha).holds:
        how = f"a little worse, by less than {limit}" if dropped else f"not worse by {limit}"
        return GateResult("pass", None, f"The candidate is {how}: {numbers}.", difference, p, detectable)
    if dropped:
        return GateResult(
            "fail", None, f"The candidate is worse than the live model: {numbers}.", difference, p, detectable
        )
    additional = _additional(difference, margin, alpha, 1)
    message = f"The data cannot show whether the candidate is worse by {limit}: {numbers}{_requirement(additional)}."
    return GateResult("cannot_decide", additional, message, difference, p, detectable)


def _drop(a: Floats, b: Floats, difference: Difference) -> float | None:
    """The one-sided p-value of the hypothesis that ``a`` is not lower than ``b``."""
    if difference.interval is None:
        return None
    keep = np.isfinite(a) & np.isfinite(b)
    if difference.clusters == difference.n and is_binary(a[keep]) and is_binary(b[keep]):
        return mcnemar(a, b).p_lower
    return float(scipy.special.stdtr(difference.clusters - 1, difference.centre / difference.error))


def _additional(difference: Difference, margin: float, alpha: float, sides: Sides) -> AdditionalSamples | None:
    """How many more rows would settle it.

    Enough to detect a difference of the margin. Where there are as many already, the true difference seems to lie
    between 0 and the margin; then enough to detect half the margin, and so on.
    """
    effect = margin
    more = additional_samples(difference, effect, alpha, sides=sides)
    while more is not None and more.rows == 0:
        effect /= 2
        more = additional_samples(difference, effect, alpha, sides=sides)
    return more


def _check(margin: float) -> None:
    if not margin > 0:
        raise ConfigError(f"the margin {margin:g} is not above 0", "choose one such as 0.01")


def _amount(value: float, unit: str, sign: str = "") -> str:
    if unit == "share":
        points = f"{100 * value:{sign}.3g}"
        return f"{points} point" if points.lstrip("+-") == "1" else f"{points} points"
    return f"{value:{sign}.3g} {unit}".rstrip()


def _numbers(difference: Difference, unit: str) -> str:
    interval = difference.interval
    assert interval is not None  # the callers have checked
    scale = 100 if unit == "share" else 1
    among = f" in {difference.clusters:,} clusters" if difference.clusters < difference.n else ""
    numbers = (
        f"{_amount(difference.value, unit, '+')} ({100 * interval.level:g} % interval {scale * interval.low:+.3g} to "
        f"{scale * interval.high:+.3g}) on {difference.n:,} samples{among}"
    )
    if difference.dropped:
        numbers += f", {difference.dropped:,} more not scored for both"
    return f"{numbers}; {difference.caution}" if difference.caution else numbers


def _requirement(additional: AdditionalSamples | None) -> str:
    return "" if additional is None else f"; about {additional.rows:,} more samples are needed"
