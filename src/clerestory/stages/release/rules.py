"""Checks a rule with a bound against one measurement. Pure functions: the same input gives the same reason."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import NormalDist

from clerestory.core.evidence import Measurement
from clerestory.core.release import Cause, Outcome, Reason, Rule, Verdict
from clerestory.stats.intervals import FEW_EVENTS, wilson


def check_bound(rule: Rule, measured: Measurement, evidence: str) -> Reason:
    """Whether a measurement satisfies a rule with a bound.

    With the criterion ``interval_bound`` the less favourable end of the interval must meet the bound. A bound inside
    the interval is therefore a *fail*: the claim does not hold with confidence.

    Args:
        rule: has exactly one of ``at_least`` and ``at_most``.
        measured: the measurement that the rule names.
        evidence: id of the evidence of the measurement.
    """
    interval = measured.interval
    if rule.criterion == "interval_bound" and interval is None:
        message = (
            f"{describe_measurement(rule)} has no interval (n = {measured.n:,}): {measured.no_interval.rstrip('.')}."
        )
        return _reason(rule, "no_interval", message, measured, evidence)
    if rule.criterion == "value" or interval is None:
        meets = _meets(rule, measured.value)
        value = _format_distinct(rule, measured.value, measured.unit)
        ending = f"which {'meets' if meets else _relation(rule)} the {format_bound(rule, measured.unit)}"
        message = f"{describe_measurement(rule)} is {value} (n = {measured.n:,}), {ending}."
        return _reason(rule, "meets_bound" if meets else _failure_cause(rule), message, measured, evidence)
    low, high = interval.low, interval.high
    worse, better = (low, high) if rule.at_least is not None else (high, low)
    value, *ends = (_format_distinct(rule, each, measured.unit) for each in (measured.value, low, high))
    prefix = (
        f"{describe_measurement(rule)} is {value} with a {interval.level * 100:g} % interval of {ends[0]} to {ends[1]} "
        f"(n = {measured.n:,})"
    )
    end = "lower bound" if rule.at_least is not None else "upper bound"
    bound = format_bound(rule, measured.unit)
    if _meets(rule, worse):
        return _reason(rule, "meets_bound", f"{prefix}; even the {end} meets the {bound}.", measured, evidence)
    more = additional_rows(rule, measured)
    if _meets(rule, better):
        ending = f"the {end} {_relation(rule)} the {bound}, so the claim does not hold with confidence"
    else:
        ending = f"the whole interval {_relation(rule)} the {bound}"
    if more is not None:
        ending += f"; with about {more:,} more samples like these it would, if the value stays the same"
    return _reason(rule, _failure_cause(rule), f"{prefix}; {ending}.", measured, evidence, more)


def additional_rows(rule: Rule, measured: Measurement) -> int | None:
    """How many more samples would move the interval past the bound, if the value stays the same.

    The interval is taken to shrink as that of a share does (Wilson 1927 for few hits or misses), otherwise with the
    root of the number of samples.

    Returns:
        None if the value itself does not meet the bound, so that no number of samples would help, or without an
        interval.
    """
    interval, bound, value = measured.interval, _bound(rule), measured.value
    if interval is None or not _meets(rule, value) or value == bound:
        return None
    end = interval.low if rule.at_least is not None else interval.high
    if measured.unit == "share" and interval.method.endswith("wilson") and 0 <= bound <= 1:
        needed = _wilson_size(value, bound, interval.level)
        if min(value, 1 - value) * needed >= FEW_EVENTS:  # so many samples have the other interval of shares
            needed = max(needed, value * (1 - value) * (_critical(interval.level) / (value - bound)) ** 2)
        ratio = needed / _wilson_size(value, end, interval.level)
    else:
        ratio = ((value - end) / (value - bound)) ** 2
    return max(1, math.ceil(measured.n * (ratio - 1)))


def _wilson_size(share: float, end: float, level: float) -> float:
    """The number of independent samples with which an end of the interval of a share is there."""
    critical = _critical(level)
    small, large = 1e-3, 1e12
    while large / small > 1 + 1e-6:
        size = math.sqrt(small * large)
        reached = wilson(share, size, critical, level)
        is_wider = reached.low < end if end < share else reached.high > end
        small, large = (size, large) if is_wider else (small, size)
    return large


def _critical(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def check_chance(rule: Rule, reason: Reason, chance: float) -> Reason:
    """The reason of a rule with a bound; *cannot decide* if even guessing always succeeds.

    So it is with recall@10 and ten candidates or fewer: the value says nothing about the model.

    Args:
        rule: has a bound.
        reason: of the measurement.
        chance: the expected value of the measurement for guessing.
    """
    if reason.outcome != "pass" or _bound(rule) <= 0 or chance < 1:
        return reason
    message = (
        f"guessing would give a {describe_measurement(rule)} of {format_value(chance, reason.unit)}, which meets the "
        f"{format_bound(rule, reason.unit)} as well, so the value is not informative (n = {reason.n or 0:,}); "
        "add more candidates to the test split, or use a metric that guessing cannot satisfy."
    )
    return replace(reason, outcome="cannot_decide", cause="met_by_chance", message=message)


def outcome_of(cause: Cause) -> Outcome:
    """The outcome of a cause."""
    if cause in ("meets_bound", "not_worse", "no_reference"):
        return "pass"
    return "fail" if cause in ("below_minimum", "above_maximum", "worse") else "cannot_decide"


def overall_verdict(outcomes: Iterable[Outcome]) -> Verdict:
    """The verdict from the outcomes of all rules; one failed rule is enough to refuse."""
    distinct = set(outcomes)
    if "fail" in distinct:
        return "refuse"
    return "ship" if distinct == {"pass"} else "cannot_decide"


def describe_measurement(rule: Rule) -> str:
    """The measurement of a rule, for messages: ``recall@10 (split=test)``."""
    return f"{rule.metric} ({rule.where})" if rule.where else rule.metric


def format_value(value: float, unit: str, digits: int = 1) -> str:
    """A number with its unit: shares as per cent."""
    if unit == "share":
        return f"{value * 100:.{digits}f} %"
    return f"{value:,.{digits}f} {unit}"


def format_bound(rule: Rule, unit: str) -> str:
    """The bound of a rule, such as ``required minimum of 45.0 %``."""
    kind = "required minimum" if rule.at_least is not None else "allowed maximum"
    return f"{kind} of {format_value(_bound(rule), unit)}"


def format_margin(rule: Rule, unit: str) -> str:
    """The drop that a relative rule excludes, such as ``3 points``."""
    margin = rule.no_worse_by or 0.0
    return f"{100 * margin:.3g} points" if unit == "share" else f"{margin:.3g} {unit}"


def _reason(
    rule: Rule, cause: Cause, message: str, measured: Measurement, evidence: str, more: int | None = None
) -> Reason:
    interval = measured.interval
    return Reason(
        rule=rule.name,
        outcome=outcome_of(cause),
        cause=cause,
        message=message,
        evidence=evidence,
        value=measured.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        bound=_bound(rule),
        unit=measured.unit,
        n=measured.n,
        additional_rows=more,
    )


def _format_distinct(rule: Rule, value: float, unit: str) -> str:
    """A value with enough digits to distinguish it from the bound."""
    for digits in (1, 2, 3, 4, 6):
        text = format_value(value, unit, digits)
        if value == _bound(rule) or text != format_value(_bound(rule), unit, digits):
            return text
    return format_value(value, unit, 12)


def _bound(rule: Rule) -> float:
    bound = rule.at_least if rule.at_least is not None else rule.at_most
    if bound is None:
        raise ValueError(f"the rule {rule.name!r} has no bound")
    return bound


def _meets(rule: Rule, value: float) -> bool:
    return value >= _bound(rule) if rule.at_least is not None else value <= _bound(rule)


def _relation(rule: Rule) -> str:
    return "is below" if rule.at_least is not None else "is above"


def _failure_cause(rule: Rule) -> Cause:
    return "below_minimum" if rule.at_least is not None else "above_maximum"
