"""From a paired difference to a word: better, worse, no difference, or inconclusive with what it still takes.

Two questions, one language:

- ``judge``: is A better than B? The interval excludes 0: ``better`` or ``worse``. It lies within the margin that
  matters: ``no_difference``. Neither: ``inconclusive``, with how many more samples settle it.
- ``gate_difference``: may A replace B? Shown to be less than the margin worse: ``pass``. Significantly worse: ``fail``.
  Neither: ``cannot_tell``, with how many more samples settle it.

Absence of evidence is never evidence of absence: a small test set earns ``inconclusive``, not ``no_difference``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Direction
from clerestory.stats.paired import (
    Difference,
    Floats,
    Ints,
    is_binary,
    mcnemar,
    paired_difference,
    shown_no_worse,
)
from clerestory.stats.power import Needed, Sides, minimum_detectable, needed

Word = Literal["better", "worse", "no_difference", "inconclusive"]
Answer = Literal["pass", "fail", "cannot_tell"]


class Verdict(NamedTuple):
    """What a comparison of A with B shows.

    Attributes:
        word: of A: ``better``, ``worse``, ``no_difference`` or ``inconclusive``.
        needs: how many more samples an inconclusive one takes; None for the others and where it is unknown.
        sentence: the same in plain words, with the numbers.
    """

    word: Word
    needs: Needed | None
    sentence: str


class Gate(NamedTuple):
    """Whether a candidate may replace the live model, on one set of samples.

    Attributes:
        answer: ``pass``, ``fail`` or ``cannot_tell``.
        needs: how many more samples it takes where it cannot tell; None for the others and where it is unknown.
        sentence: the same in plain words, with the numbers.
        difference: candidate minus live, in the direction of better.
        p: one-sided, of "the candidate is no worse"; None where the rows give none.
        detectable: the smallest true drop these rows would show with a power of 0.8; None where it is unknown.
    """

    answer: Answer
    needs: Needed | None
    sentence: str
    difference: Difference
    p: float | None
    detectable: float | None


def judge(
    difference: Difference,
    margin: float = 0.01,
    direction: Direction = "higher",
    unit: str = "share",
    names: tuple[str, str] = ("A", "B"),
    p: float | None = None,
) -> Verdict:
    """Put a difference of A minus B into a word.

    Args:
        difference: of ``paired_difference(a, b, …)``; its interval's level is the verdict's.
        margin: the largest difference that does not matter.
        direction: which way is better; ``none`` counts as ``higher``.
        unit: of the scores; a ``share`` is told in points.
        names: of A and B.
        p: the difference's p value adjusted for the other comparisons (``holm``); its own when None. An adjusted one
            can only take a ``better`` or ``worse`` back.

    Raises:
        ConfigError: a margin that is not above 0.
    """
    _check(margin)
    interval = difference.interval
    ours, theirs = names
    if interval is None:
        sentence = f"It cannot be told whether {ours} differs from {theirs}: {difference.no_interval}."
        return Verdict("inconclusive", None, sentence)
    told = _told(difference, unit)
    alpha = 1 - interval.level
    chance = difference.p if p is None else max(p, difference.p or 0.0)
    if chance is not None and chance < alpha:
        up = (difference.centre > 0) == (direction != "lower")
        word: Word = "better" if up else "worse"
        small = max(-interval.low, interval.high) < margin
        rest = f", by less than a margin of {_amount(margin, unit)}" if small else ""
        return Verdict(word, None, f"{ours} is {word} than {theirs}{rest}: {told}.")
    if -margin < interval.low and interval.high < margin:
        rest = f"they differ by less than a margin of {_amount(margin, unit)}"
        return Verdict("no_difference", None, f"{ours} is as good as {theirs}; {rest}: {told}.")
    needs = _more(difference, margin, alpha, 2)
    return Verdict(
        "inconclusive", needs, f"It cannot be told whether {ours} differs from {theirs}: {told}{_wish(needs)}."
    )


def gate_difference(
    candidate: Floats,
    live: Floats,
    groups: Ints,
    margin: float = 0.01,
    alpha: float = 0.01,
    direction: Direction = "higher",
    unit: str = "share",
) -> Gate:
    """May the candidate replace the live model?

    ``fail`` is a false alarm at most ``alpha`` of the time when the two are equally good; ``pass`` is wrong at most
    ``alpha`` of the time when the candidate is worse by the margin. Independent right-or-wrong pairs are judged by the
    exact one-sided McNemar test, others by the cluster-robust t test. A drop that is significant and yet shown to be
    smaller than the margin passes, and the sentence says so.

    Args:
        candidate: (N,) scores; NaN where there is none.
        live: (N,) of the same rows.
        groups: (N,) cluster numbers.
        margin: the drop that must not happen, in the scores' unit.
        alpha: how often each answer may be wrong.
        direction: which way is better.
        unit: of the scores.

    Raises:
        ConfigError: a margin that is not above 0, or an alpha outside 0…0.5.
        InputError: the rows cannot be paired.
    """
    _check(margin)
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha = {alpha:g} is no share of wrong answers to accept", "give one such as 0.01")
    # Of scores of which lower is better, live minus candidate is what the candidate gained.
    a, b = (live, candidate) if direction == "lower" else (candidate, live)
    # Both ends of this interval are the one-sided bounds at alpha, so it says what the answer says.
    difference = paired_difference(a, b, groups, level=1 - 2 * alpha)
    p = _drop(a, b, difference)
    if difference.interval is None or p is None:
        return Gate("cannot_tell", None, f"It cannot be told: {difference.no_interval}.", difference, None, None)
    told, detectable = _told(difference, unit), minimum_detectable(difference, alpha, sides=1)
    limit, dropped = _amount(margin, unit), p < alpha
    if shown_no_worse(difference, margin, alpha).holds:
        how = f"a little worse, by less than {limit}" if dropped else f"not worse by {limit}"
        return Gate("pass", None, f"The candidate is {how}: {told}.", difference, p, detectable)
    if dropped:
        return Gate("fail", None, f"The candidate is worse than the live model: {told}.", difference, p, detectable)
    needs = _more(difference, margin, alpha, 1)
    sentence = f"It cannot be told whether the candidate is worse by {limit}: {told}{_wish(needs)}."
    return Gate("cannot_tell", needs, sentence, difference, p, detectable)


def _drop(a: Floats, b: Floats, difference: Difference) -> float | None:
    """The one-sided p value of "``a`` is no lower than ``b``"."""
    if difference.interval is None:
        return None
    keep = np.isfinite(a) & np.isfinite(b)
    if difference.clusters == difference.n and is_binary(a[keep]) and is_binary(b[keep]):
        return mcnemar(a, b).p_lower
    return float(special.stdtr(difference.clusters - 1, difference.centre / difference.error))


def _more(difference: Difference, margin: float, alpha: float, sides: Sides) -> Needed | None:
    """How many more rows settle it.

    Enough to see a difference of the margin. Where there are as many already, the truth seems to lie between 0 and the
    margin; then enough to tell it from the nearer of both, half a margin away, and so on.
    """
    effect = margin
    more = needed(difference, effect, alpha, sides=sides)
    while more is not None and more.rows == 0:
        effect /= 2
        more = needed(difference, effect, alpha, sides=sides)
    return more


def _check(margin: float) -> None:
    if not margin > 0:
        raise ConfigError(f"a margin of {margin:g} leaves no room for chance", "give one above 0, such as 0.01")


def _amount(value: float, unit: str, sign: str = "") -> str:
    if unit == "share":
        told = f"{100 * value:{sign}.3g}"
        return f"{told} point" if told.lstrip("+-") == "1" else f"{told} points"
    return f"{value:{sign}.3g} {unit}".rstrip()


def _told(difference: Difference, unit: str) -> str:
    interval = difference.interval
    assert interval is not None  # the callers have checked
    scale = 100 if unit == "share" else 1
    among = f" in {difference.clusters:,} clusters" if difference.clusters < difference.n else ""
    told = (
        f"{_amount(difference.value, unit, '+')} ({100 * interval.level:g} % interval {scale * interval.low:+.3g} to "
        f"{scale * interval.high:+.3g}) on {difference.n:,} samples{among}"
    )
    if difference.dropped:
        told += f", {difference.dropped:,} more not scored for both"
    return f"{told}; {difference.caution}" if difference.caution else told


def _wish(needs: Needed | None) -> str:
    if needs is None:
        return ""
    return f"; it takes about {needs.rows:,} more samples"
