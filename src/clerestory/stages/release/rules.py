"""One rule against one measurement, in numbers and in words. Pure: the same input gives the same reason."""

from __future__ import annotations

from collections.abc import Iterable

from clerestory.core.evidence import Measurement
from clerestory.core.release import Outcome, Reason, Rule, Verdict


def judge(rule: Rule, measured: Measurement, evidence: str) -> Reason:
    """Whether a measurement satisfies a rule.

    With ``judge = "interval"`` the worse end of the interval must meet the bound. A bound inside the interval is
    therefore a *fail*: the claim does not hold with confidence.

    Args:
        rule: the rule; has exactly one bound.
        measured: the measurement it names.
        evidence: id of the evidence the measurement is part of.
    """
    about = f"{rule.metric} ({rule.where})" if rule.where else rule.metric
    if rule.judge == "value":
        meets = _meets(rule, measured.value)
        said = f"{about} is {_number(rule, measured.value, measured.unit)} (n = {measured.n:,})"
        ending = f"which {'meets' if meets else 'misses'} the {bound_in_words(rule, measured.unit)} that is asked for"
        return Reason(rule.name, "pass" if meets else "fail", f"{said}, {ending}.", evidence)
    if measured.interval is None:
        message = f"{about} has no interval to judge by (n = {measured.n:,}): {measured.no_interval.rstrip('.')}."
        return Reason(rule.name, "cannot_tell", message, evidence)
    low, high = measured.interval.low, measured.interval.high
    worse, better = (low, high) if rule.at_least is not None else (high, low)
    outcome: Outcome = "pass" if _meets(rule, worse) else "fail"
    shown = [_number(rule, each, measured.unit) for each in (measured.value, low, high)]
    said = (
        f"{about} is {shown[0]} with a {measured.interval.level * 100:g} % interval of {shown[1]} to {shown[2]} "
        f"(n = {measured.n:,})"
    )
    end = "low" if rule.at_least is not None else "high"
    asked = bound_in_words(rule, measured.unit)
    if outcome == "pass":
        ending = f"even its {end} end meets the {asked} that is asked for"
    elif _meets(rule, better):
        ending = f"its {end} end misses the {asked} that is asked for, so the claim does not hold with confidence"
    else:
        ending = f"all of it misses the {asked} that is asked for"
    return Reason(rule.name, outcome, f"{said}; {ending}.", evidence)


def verdict(outcomes: Iterable[Outcome]) -> Verdict:
    """What the outcomes of all rules amount to; one failed rule is enough to refuse."""
    found = set(outcomes)
    if "fail" in found:
        return "refuse"
    return "ship" if found == {"pass"} else "cannot_tell"


def value_in_words(value: float, unit: str, digits: int = 1) -> str:
    """A number with its unit: shares as per cent."""
    if unit == "share":
        return f"{value * 100:.{digits}f} %"
    return f"{value:,.{digits}f} {unit}"


def bound_in_words(rule: Rule, unit: str) -> str:
    """The bound of a rule, such as ``at least 45.0 %``."""
    kind = "at least" if rule.at_least is not None else "at most"
    return f"{kind} {value_in_words(_bound(rule), unit)}"


def margin_in_words(rule: Rule, unit: str) -> str:
    """The drop that a relative rule does not allow, such as ``3 points``."""
    margin = rule.no_worse_by or 0.0
    return f"{100 * margin:.3g} points" if unit == "share" else f"{margin:.3g} {unit}"


def _number(rule: Rule, value: float, unit: str) -> str:
    """A value with as many digits as it takes to tell it from the bound."""
    for digits in (1, 2, 3, 4, 6):
        text = value_in_words(value, unit, digits)
        if value == _bound(rule) or text != value_in_words(_bound(rule), unit, digits):
            return text
    return value_in_words(value, unit, 12)


def _bound(rule: Rule) -> float:
    bound = rule.at_least if rule.at_least is not None else rule.at_most
    if bound is None:
        raise ValueError(f"the rule {rule.name!r} has no bound")
    return bound


def _meets(rule: Rule, value: float) -> bool:
    return value >= _bound(rule) if rule.at_least is not None else value <= _bound(rule)
