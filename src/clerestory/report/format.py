"""Numbers, times and names in words that a person reads; the command line and the web pages use them, too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from clerestory.core.evidence import Measurement
from clerestory.core.licences.policy import LicencePolicy, LicenceState, check_licence
from clerestory.core.licences.terms import DUTY_LABELS, Duty, LicenceReason, Scope
from clerestory.core.stage import stages
from clerestory.core.units import plural as plural  # part of this vocabulary
from clerestory.report.vocabulary import EVENTS, KINDS, OUTCOMES, SLICES, VERDICTS, Words
from clerestory.stats.metrics import metric

SHARE, MILLISECONDS = "share", "ms"
# The fields of ``core.evidence.Subject``.
DIGESTS = {
    "model": "the model",
    "data": "the data",
    "code": "the code",
    "config": "the settings",
    "environment": "the machine or its libraries",
}
# Units that say nothing beside the name of the measurement.
PLAIN_UNITS = ("", SHARE, "rank", "score", "ratio", "log ratio")


def count(items: int) -> str:
    """``12,345``."""
    return f"{items:,}"


def images(number: int) -> str:
    """A number of images, in the word for people who are not engineers."""
    return plural(number, "picture")


def listing(parts: list[str] | tuple[str, ...], last: str = "and") -> str:
    """``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def sentence(text: str) -> str:
    """The text with a capital first letter and an end."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?…:" else ".")


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def decimals(value: float, unit: str, low: float | None = None, high: float | None = None) -> int:
    """How many decimals are meaningful: the half-width of the interval keeps one digit."""
    if unit == SHARE:
        half = ((high - low) / 2) if low is not None and high is not None else 0.0
        return min(4, max(2, math.ceil(-math.log10(half)))) if half > 0 else 2
    if unit == MILLISECONDS:
        return 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    if value == 0 or float(value).is_integer() and unit == "rank":
        return 0
    size = math.floor(math.log10(abs(value)))
    return max(0, min(4, 2 - size)) if size >= -3 else min(9, 1 - size)


def digits(value: float, unit: str = "", places: int | None = None) -> str:
    """The bare number with the decimals its unit deserves: ``0.57``, ``12.3``, ``1,204``."""
    return f"{value:,.{decimals(value, unit) if places is None else places}f}"


def amount(value: float, unit: str = "", places: int | None = None) -> str:
    """The number with its unit: ``0.57``, ``12.3 ms``, ``4``."""
    text = digits(value, unit, places)
    return text if unit in PLAIN_UNITS else f"{text}\N{NO-BREAK SPACE}{unit}"


def number(m: Measurement) -> str:
    """``0.57, between 0.53 and 0.61``, or the number with the reason why it has no interval."""
    if m.interval is None:
        return f"{amount(m.value, m.unit)} (no interval: {m.no_interval})"
    low, high = m.interval.low, m.interval.high
    places = decimals(m.value, m.unit, low, high)
    ends = f"between {digits(low, m.unit, places)} and {amount(high, m.unit, places)}"
    return f"{amount(m.value, m.unit, places)}, {ends}"


def countable(m: Measurement) -> bool:
    """Whether a value is a share of answers, which can be written as N of 100."""
    return m.unit == SHARE and metric(m.name).counts_answers


def brief(m: Measurement) -> str:
    """``57 (53–61)`` of 100, ``0.31 (0.29–0.33)`` for a narrow place, where unit and n are nearby."""
    if m.interval is None:
        return f"{plain_value(m)} (no interval)"
    low, high = _ends(m)
    return f"{plain_value(m)} ({low}\N{EN DASH}{high})"


def plain_value(m: Measurement) -> str:
    """The value alone; a share of answers as a count of 100: ``57``."""
    return amount(_times(m) * m.value, "" if countable(m) else m.unit, _places(m))


def value_of_hundred(m: Measurement) -> str:
    """The value alone; a share of answers as ``57 of 100``."""
    return f"{plain_value(m)} of 100" if countable(m) else plain_value(m)


def between(m: Measurement) -> str:
    """The interval in the same terms as ``value_of_hundred``: ``between 53 and 61``; empty without one."""
    if m.interval is None:
        return ""
    low, high = _ends(m)
    unit = "" if countable(m) or m.unit in PLAIN_UNITS else f"\N{NO-BREAK SPACE}{m.unit}"
    return f"between {low} and {high}{unit}"


def of_hundred(m: Measurement) -> str:
    """A share of answers as people count: ``57 of 100, between 53 and 61``; anything else as ``number``."""
    if m.interval is None:
        return f"{value_of_hundred(m)} (no interval: {m.no_interval})"
    return f"{value_of_hundred(m)}, {between(m)}"


def _times(m: Measurement) -> int:
    return 100 if countable(m) else 1


def _ends(m: Measurement) -> tuple[str, str]:
    assert m.interval is not None
    unit = "" if countable(m) else m.unit
    low, high = (digits(_times(m) * end, unit, _places(m)) for end in (m.interval.low, m.interval.high))
    return low, high


def _places(m: Measurement) -> int:
    low, high = (m.interval.low, m.interval.high) if m.interval else (None, None)
    places = decimals(m.value, m.unit, low, high)
    return max(0, places - 2) if countable(m) else places


def counted(m: Measurement) -> str:
    """The basis of a number: ``n = 503 in 488 concepts``."""
    if m.clusters is None:
        return f"n = {count(m.n)}"
    what = m.recipe.cluster if m.recipe and m.recipe.cluster else "cluster"
    return f"n = {count(m.n)} in {plural(m.clusters, slice_key(what))}"


def level(value: float) -> str:
    """``95%``."""
    return f"{100 * value:g}%"


NO_VALUE = ("none", "")  # of a group: the image has none, such as no skin tone
_PEOPLE = ("skin_tone", "gender", "age", "ethnicity", "race")


def slice_key(key: str) -> str:
    """A slice's or cluster's key in plain words: ``concept_split`` → ``concept split``."""
    return key.replace("_", " ")


def slice_value(key: str, value: str) -> str:
    """A slice's value in plain words: ``("style", "fluent-emoji-flat")`` → ``Fluent flat``."""
    return SLICES.get(key, {}).get(value, value)


def group_value(group: str, value: str) -> str:
    """The value of a group in plain words; images that have none are named as such, not ``none``."""
    if value not in NO_VALUE:
        return slice_value("value", slice_value(group, value))
    name = slice_value("group", group).replace("_", " ")
    return f"pictures without {'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def slice_words(where: Mapping[str, str]) -> str:
    """A slice in plain words: ``writing captions (captioning) · concepts it never saw (test) · Twemoji``."""
    order = ["task", "of", "operation", "split", "style", "concept_split", "group", "value", "condition", "severity"]
    if (where.get("task") == "latency" and "operation" in where) or (where.get("task") == "cost" and "of" in where):
        order.remove("task")
    keys = [k for k in order if k in where] + [k for k in where if k not in order and k != "task"]
    parts = [_slice_part(k, where) for k in keys]
    return " · ".join(parts)


def _slice_part(key: str, where: Mapping[str, str]) -> str:
    value = where[key]
    if key == "value" and "group" in where and value in NO_VALUE:
        return group_value(where["group"], value)
    if key in _PEOPLE and value in NO_VALUE:
        return group_value(key, value)
    return slice_value(key, value) if key in SLICES else f"{slice_key(key)} {value}"


def verdict(name: str) -> Words:
    """A decision's verdict: ``Yes``/``No``/``Cannot decide`` and what it means."""
    return VERDICTS.get(name, VERDICTS["cannot_decide"])


def outcome(name: str) -> str:
    """A rule's outcome: ``met``, ``not met``, ``cannot decide``."""
    return OUTCOMES.get(name, name.replace("_", " "))


def kind(name: str) -> str:
    """A kind of evidence: ``evaluate`` → ``evaluation``, ``evaluate.ood`` → ``evaluation (ood)``."""
    base, *suite = name.split(".", 1)
    known = stages()
    label = known[base].label if base in known else KINDS.get(base, base.replace("_", " "))
    return f"{label} ({suite[0].replace('_', ' ')})" if suite else label


def event(name: str) -> str:
    """A kind of event as an action: ``promoted`` → ``promoted it to live``."""
    return EVENTS.get(name, name.replace("_", " "))


def when(moment: str) -> str:
    """An ISO 8601 time as ``23 November 2026, 18:02 UTC``; other text unchanged."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


_OPEN = LicencePolicy(allow_share_alike=True, allow_use_restrictions=True)
_REFUSALS = {
    LicenceReason.NON_COMMERCIAL: "no commercial use",
    LicenceReason.NO_DERIVATIVES: "no changed works",
    LicenceReason.NO_DISTRIBUTION: "not to be passed on",
    LicenceReason.LIMITED_GRANT: "allowed within a limit only (size, revenue, region)",
    LicenceReason.UNCLEAR_RIGHTS: "its text does not say what is allowed",
}


def share_alike(licence: str) -> bool:
    """Whether a licence asks for the same licence for works made from the material; not for changed fonts only."""
    obligations = check_licence(licence, _OPEN).obligations
    return any(each.duty == Duty.SHARE_ALIKE and each.scope != Scope.FONT for each in obligations)


def licence_words(licence: str) -> str:
    """What a licence requires, in a few words."""
    if not licence:
        return "no licence is recorded; do not assume one"
    verdict = check_licence(licence, _OPEN)
    refusals = [_REFUSALS[reason] for reason in verdict.reasons if reason in _REFUSALS]
    if verdict.state != LicenceState.PASSES and not refusals:
        return "read the licence; its conditions are not known here"
    words = refusals or ["use freely"]
    duties = [DUTY_LABELS[duty] for duty in verdict.duties]
    if duties:
        return f"{', '.join(words)}: {', '.join(duties)}"
    return ", ".join(words) if refusals else "use freely, no conditions"
