"""Numbers, times and names in words that a person reads; the command line and the pages use them too."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from clerestory.core.digest import short
from clerestory.core.evidence import Measurement
from clerestory.report.vocabulary import BEST_OF, EVENTS, KINDS, METRICS, OUTCOMES, SLICES, VERDICTS, Words

SHARE, MILLISECONDS = "share", "ms"
# Units that say nothing beside the name of the measurement.
PLAIN_UNITS = ("", SHARE, "rank", "score", "ratio", "log ratio")


# Names whose value is a share of questions answered rightly, so that it may be told as so many of a hundred.
_QUESTIONS = frozenset(
    {"guessing", "accuracy", "accuracy_all_orders", "baseline accuracy", "robust_accuracy", "worst_group"}
)


def count(items: int) -> str:
    """``12,345``."""
    return f"{items:,}"


def plural(items: int, one: str, many: str = "") -> str:
    """``1 picture``, ``12,345 pictures``."""
    return f"{count(items)} {one if items == 1 else many or one + 's'}"


def listing(parts: list[str] | tuple[str, ...], last: str = "and") -> str:
    """``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def sentence(text: str) -> str:
    """The text with a capital first letter and an end."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?…:" else ".")


def decimals(value: float, unit: str, low: float | None = None, high: float | None = None) -> int:
    """How many decimals say what is known and no more: the half-width of the interval keeps one digit."""
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
    """Whether a share is one of questions answered, so that it may be told as so many of a hundred."""
    told = m.recipe.statistic == "share_at_most" if m.recipe else m.name.startswith("recall@")
    return m.unit == SHARE and (told or m.name in _QUESTIONS)


def brief(m: Measurement) -> str:
    """``57 (53–61)`` of a hundred, ``0.31 (0.29–0.33)`` for a narrow place, where unit and n stand nearby."""
    times = 100 if countable(m) else 1
    unit = "" if countable(m) else m.unit
    if m.interval is None:
        return f"{amount(times * m.value, unit, _places(m))} (no interval)"
    low, high = (digits(times * end, unit, _places(m)) for end in (m.interval.low, m.interval.high))
    return f"{amount(times * m.value, unit, _places(m))} ({low}\N{EN DASH}{high})"


def _places(m: Measurement) -> int:
    low, high = (m.interval.low, m.interval.high) if m.interval else (None, None)
    places = decimals(m.value, m.unit, low, high)
    return max(0, places - 2) if countable(m) else places


def of_hundred(m: Measurement) -> str:
    """A share of questions as people count: ``57 of 100, between 53 and 61``; anything else as ``number``."""
    if not countable(m):
        return number(m)
    value = f"{digits(100 * m.value, '', _places(m))} of 100"
    if m.interval is None:
        return f"{value} (no interval: {m.no_interval})"
    low, high = (digits(100 * end, "", _places(m)) for end in (m.interval.low, m.interval.high))
    return f"{value}, between {low} and {high}"


def counted(m: Measurement) -> str:
    """What the number rests on: ``n = 503 in 488 concepts``."""
    if m.clusters is None:
        return f"n = {count(m.n)}"
    what = m.recipe.cluster if m.recipe and m.recipe.cluster else "cluster"
    return f"n = {count(m.n)} in {plural(m.clusters, slice_key(what))}"


def level(value: float) -> str:
    """``95%``."""
    return f"{100 * value:g}%"


def metric(name: str) -> Words:
    """The plain words of a measurement's name; the name itself where there are none."""
    recall = re.fullmatch(r"recall@(\d+)", name)
    if recall:
        k = int(recall[1])
        if k == 1:
            return Words("Right at once", "How often the right answer comes first.")
        return Words(f"Right within the first {k}", f"How often the right answer is among the first {k}.")
    best = re.fullmatch(r"chrf_best_of_(\d+)", name)
    if best:
        return Words(f"Likeness of the best of {best[1]} suggestions", BEST_OF)
    key = re.sub(r"[\s_\-.]+", " ", name.lower()).strip()
    if key in METRICS:
        return METRICS[key]
    said = set(key.split())
    near = [known for known in METRICS if set(known.split()) <= said]
    return METRICS[max(near, key=len)] if near else Words(name, "")


def slice_key(key: str) -> str:
    """A slice's or cluster's key in plain words: ``concept_split`` → ``concept split``."""
    return key.replace("_", " ")


def slice_value(key: str, value: str) -> str:
    """A slice's value in plain words: ``("split", "test_style")`` → ``a drawing style it never saw``."""
    return SLICES.get(key, {}).get(value, value)


def slice_words(where: Mapping[str, str]) -> str:
    """A slice in plain words: ``words for a picture · things it never saw · Twemoji``."""
    order = ["task", "of", "operation", "split", "style", "concept_split", "group", "value", "condition", "severity"]
    if (where.get("task") == "latency" and "operation" in where) or (where.get("task") == "cost" and "of" in where):
        order.remove("task")
    keys = [k for k in order if k in where] + [k for k in where if k not in order and k != "task"]
    parts = [slice_value(k, where[k]) if k in SLICES else f"{slice_key(k)} {where[k]}" for k in keys]
    return " · ".join(parts)


def verdict(name: str) -> Words:
    """A decision's verdict: ``Yes``/``No``/``Cannot tell`` and what it says."""
    return VERDICTS.get(name, VERDICTS["cannot_tell"])


def outcome(name: str) -> str:
    """A rule's outcome: ``holds``, ``does not hold``, ``cannot tell``."""
    return OUTCOMES.get(name, name.replace("_", " "))


def kind(name: str) -> str:
    """A kind of evidence: ``evaluate`` → ``examination``."""
    return KINDS.get(name, name.replace("_", " "))


def event(name: str) -> str:
    """A kind of event as what somebody did: ``promoted`` → ``put it live``."""
    return EVENTS.get(name, name.replace("_", " "))


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``4 min 12 s``, ``2 h 5 min``."""
    if seconds < 1:
        return f"{seconds:.2g}\N{NO-BREAK SPACE}s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{n}\N{NO-BREAK SPACE}{unit}" for n, unit in parts if n)


def memory(mebibytes: float) -> str:
    """``312 MiB``, ``1.4 GiB``."""
    if mebibytes < 1024:
        return f"{mebibytes:.0f}\N{NO-BREAK SPACE}MiB"
    return f"{mebibytes / 1024:.1f}\N{NO-BREAK SPACE}GiB"


def when(moment: str) -> str:
    """An ISO 8601 time as ``23 November 2026, 18:02 UTC``; other text unchanged."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def digest_text(hex_digest: str) -> str:
    """The first twelve characters of a digest, or words when there is none."""
    return short(hex_digest) if hex_digest else "not recorded"


_LICENCES = {
    "Apache-2.0": "use freely, keep the notice",
    "MIT": "use freely, keep the notice",
    "BSD-3-Clause": "use freely, keep the notice",
    "OFL-1.1": "use freely, do not sell it alone",
    "CC0-1.0": "no conditions",
    "CC-BY-4.0": "use freely, name the makers",
    "CC-BY-3.0": "use freely, name the makers",
}
_SHARE_ALIKE = re.compile(r"(?:^|[-(\s])(?:SA|GPL|LGPL|AGPL|ODbL|MPL|EUPL|CECILL|OSL)(?:[-)\s]|$)")


def share_alike(licence: str) -> bool:
    """Whether an SPDX expression asks that works made from the material carry the same licence."""
    return bool(_SHARE_ALIKE.search(licence))


def licence_words(licence: str) -> str:
    """What a licence asks for, in a few words; empty for one that is not known here."""
    if not licence:
        return "nobody recorded a licence; do not assume one"
    if share_alike(licence):
        named = "name the makers; " if licence.startswith("CC-BY") else ""
        return f"{named}share-alike: what is made from it must carry the same licence"
    return _LICENCES.get(licence, "")
