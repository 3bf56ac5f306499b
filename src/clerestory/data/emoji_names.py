"""Which emoji an icon shows: from the names the icon sets use to Unicode code points, concepts and variants.

Half of the sets say which code points an icon stands for; the others only have names, some of them squashed
(``loudlycrying``) or home-made (``gma``). Names are resolved through, in this order: the set's own table, a small
table written by hand (``icon_names.json``), the other sets' tables, the labels of emojibase, names that a set
declares to be the same, shortcodes, and the names of the Unicode standard. What nothing resolves keeps its name.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from clerestory.data import caption_phrases

TONES = {
    "1f3fb": "light",
    "1f3fc": "medium-light",
    "1f3fd": "medium",
    "1f3fe": "medium-dark",
    "1f3ff": "dark",
}
TONE_OF_NAME = {tone: point for point, tone in TONES.items()}
WOMEN, MEN = {"2640", "1f469", "1f467", "1f475"}, {"2642", "1f468", "1f466", "1f474"}
JOINER, PRESENTATION = "200d", "fe0f"

# A gendered drawing and its neutral one are the same concept (and so are all families, couples and kisses).
NEUTRAL = {
    **dict.fromkeys(("1f468", "1f469"), "1f9d1"),
    **dict.fromkeys(("1f474", "1f475"), "1f9d3"),
    **dict.fromkeys(("1f466", "1f467"), "1f9d2"),
    **dict.fromkeys(("1f934", "1f478"), "1fac5"),
    **dict.fromkeys(("1f385", "1f936"), "1f9d1-1f384"),
    **dict.fromkeys(("1f930", "1fac3"), "1fac4"),
    **dict.fromkeys(("1f46b", "1f46c", "1f46d"), "1f9d1-1f91d-1f9d1"),
    **dict.fromkeys(("1f57a", "1f483"), "1f483"),
}
GENDER_OF_POINT = {
    **dict.fromkeys(("1f478", "1f936", "1f930", "1f483", "1f46d", "1f9d5"), "woman"),
    **dict.fromkeys(("1f934", "1f385", "1fac3", "1f57a", "1f46c"), "man"),
}
# Territories that fly the very flag of a country.
SAME_FLAG = {
    "1f1e8-1f1f5": "1f1eb-1f1f7",
    "1f1f2-1f1eb": "1f1eb-1f1f7",
    "1f1e7-1f1fb": "1f1f3-1f1f4",
    "1f1f8-1f1ef": "1f1f3-1f1f4",
    "1f1ed-1f1f2": "1f1e6-1f1fa",
    "1f1fa-1f1f2": "1f1fa-1f1f8",
    "1f1ea-1f1e6": "1f1ea-1f1f8",
    "1f1e9-1f1ec": "1f1ee-1f1f4",
}
KEYCAP = "20e3"
FAMILY, KISS, LOVERS, HANDSHAKE = "1f46a", "1f48f", "1f491", "1f91d"
PEOPLE = {"1f9d1", "1f9d2"}
# One picture turned round, or the hair alone: not a concept of its own.
DIRECTIONS = {"27a1"}


def slug(text: str) -> str:
    """``O'Clock & more`` → ``oclock-and-more``: lower-case ASCII letters and digits joined by hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = plain.replace("&", "and").replace("'", "").replace("*", "asterisk").replace("#", "hash")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def points(code: str) -> tuple[str, ...]:
    """The code points of ``1F9D1-200D-1F680`` in lower case, without presentation selectors and leading zeros."""
    return tuple(p.lstrip("0") for p in code.lower().split("-") if p and p != PRESENTATION)


def concept_code(code: str) -> str:
    """The code points that are left when skin tone, gender, direction and joiners are taken away."""
    left = [p for p in points(code) if p not in TONES and p not in DIRECTIONS and p not in ("2640", "2642", JOINER)]
    if not left:
        return "-".join(p for p in points(code) if p != JOINER)
    left = [q for p in left for q in NEUTRAL.get(p, p).split("-")]
    bare = [p for p in left if p not in PEOPLE]
    if len(left) > 1 and not bare:
        return FAMILY
    if len(left) > 2 and bare and left[0] in PEOPLE:
        if bare == ["2764", "1f48b"]:
            return KISS
        if bare == ["2764"]:
            return LOVERS
    if left == ["1faf1", "1faf2"]:
        return HANDSHAKE
    if len(left) == 1 and len(left[0]) == 2:  # a bare digit, star or number sign: its keycap is the same concept
        left.append(KEYCAP)
    code = "-".join(left)
    return SAME_FLAG.get(code, code)


_GENDERED_NAME = re.compile(r"^(?P<a>man|woman)-|-(?P<b>man|woman)$")


def neutral_name(name: str) -> tuple[str, str]:
    """``gardener-woman`` → (``gardener``, ``woman``); for icons that only their name tells about."""
    match = _GENDERED_NAME.search(name)
    return (_GENDERED_NAME.sub("", name), match["a"] or match["b"]) if match else (name, "none")


def without_tone(code: str) -> str:
    """The code of the same emoji without a skin tone."""
    return "-".join(p for p in points(code) if p not in TONES)


def skin_tone(code: str) -> str:
    """``none``, one of the five tones, or ``mixed`` when people of different tones are shown."""
    tones = {TONES[p] for p in points(code) if p in TONES}
    if points(code) and set(points(code)) <= set(TONES):
        return "none"  # a swatch of the tone, not a person
    return "none" if not tones else tones.pop() if len(tones) == 1 else "mixed"


def gender(code: str) -> str:
    """``woman``, ``man``, or ``none`` when neither or both are shown."""
    shown = set()
    for point in points(code) if code not in ("2640", "2642") else ():
        if point in WOMEN or GENDER_OF_POINT.get(point) == "woman":
            shown.add("woman")
        if point in MEN or GENDER_OF_POINT.get(point) == "man":
            shown.add("man")
    return shown.pop() if len(shown) == 1 else "none"


@dataclass(frozen=True, slots=True)
class Emoji:
    """One entry of emojibase: a code with its words.

    Attributes:
        code: canonical code, see ``points``.
        label: English name as emojibase writes it.
        group: emojibase's group key, such as ``animals-nature``.
        tags: English search words of the emoji without its variants.
    """

    code: str
    label: str
    group: str
    tags: tuple[str, ...]


def read_emoji(data: Iterable[Mapping[str, Any]], groups: Mapping[int, str]) -> dict[str, Emoji]:
    """Emojibase's ``data.json`` by canonical code, skin tone variants included."""
    found: dict[str, Emoji] = {}
    for entry in data:
        group = groups.get(entry.get("group", -1), "other")
        tags = tuple(entry.get("tags", ()))
        for each in (entry, *entry.get("skins", ())):
            code = "-".join(points(each["hexcode"]))
            found[code] = Emoji(code, each["label"], group, tags)
    return found


def by_hand() -> dict[str, Any]:
    """The table written by hand: codes, captions and view boxes by style and icon name; ``*`` is every style."""
    table: dict[str, Any] = json.loads(files("clerestory.data").joinpath("icon_names.json").read_text(encoding="utf-8"))
    return table


class Names:
    """Resolves icon names to codes.

    Args:
        emoji: emojibase by code.
        sets: the Iconify icon sets (``icons.json``) by style.
        chars: the tables code → name (``chars.json``) of the sets that have one, by style.
        shortcodes: further names of codes, such as ``{"1F44B": "wave"}``.
    """

    def __init__(
        self,
        emoji: Mapping[str, Emoji],
        sets: Mapping[str, Mapping[str, Any]],
        chars: Mapping[str, Mapping[str, str]],
        shortcodes: Mapping[str, str | list[str]],
    ) -> None:
        written = by_hand()
        self._by_hand: dict[str, dict[str, str]] = written["codes"]
        self._boxes: dict[str, dict[str, dict[str, float]]] = written["boxes"]
        self._captions: dict[str, dict[str, str]] = written["captions"]
        self._own = {style: _invert(table) for style, table in chars.items()}
        self._known: dict[str, str] = {}
        for style in chars:
            for name, code in self._own[style].items():
                if code in emoji:
                    self._known.setdefault(name, code)
        for code, each in emoji.items():
            self._known.setdefault(slug(each.label), code)
        for style in chars:
            for name, code in self._own[style].items():
                self._known.setdefault(name, code)
        self._same = _same_names(sets.values())
        self._short = {
            slug(name): "-".join(points(code))
            for code, names in shortcodes.items()
            for name in ([names] if isinstance(names, str) else names)
        }
        self._unicode = _unicode_names()
        self._squashed: dict[str, str] = {}
        for table in (self._known, self._unicode):
            for name, code in table.items():
                self._squashed.setdefault(name.replace("-", ""), code)
        for name in self._same:
            if code := self._plain(name):
                self._squashed.setdefault(name.replace("-", ""), code)

    def code(self, style: str, name: str) -> str:
        """The canonical code of an icon, empty when nothing tells it."""
        by_hand = self._by_hand.get(style, {}).get(name)
        if by_hand is not None:
            return by_hand
        own = self._own.get(style, {}).get(name)
        if own:
            return own
        base, tone = _split_tone(name)
        if tone and not self._plain(name) and (code := self._any(base)):
            return _with_tone(code, tone)
        return self._any(name)

    def caption(self, style: str, name: str) -> str:
        """The caption written by hand for an icon that emojibase does not know, else made of its name."""
        by_hand: str = self._captions.get(style, {}).get(name, "")
        return by_hand or caption_phrases.name_phrase(name, self.code(style, name))

    def box(self, style: str, name: str) -> dict[str, float]:
        """The view box written by hand for an icon whose own one cuts its drawing off, else nothing."""
        return self._boxes.get(style, {}).get(name, {})

    def _any(self, name: str) -> str:
        return (
            self._by_hand["*"].get(name)
            or self._plain(name)
            or self._unicode.get(name)
            or self._squashed.get(name.replace("-", ""))
            or self._short.get(name)
            or ""
        )

    def _plain(self, name: str) -> str:
        if name in self._known:
            return self._known[name]
        if name.startswith("flag-for-"):
            # Before the aliases: a set that draws two flags alike calls one the alias of the other.
            rest = name.removeprefix("flag-for-").removeprefix("flag-")
            found = self._plain(f"flag-{rest}") or self._plain(rest)
            if found:
                return found
        for other in self._same.get(name, ()):
            if other in self._known:
                return self._known[other]
        return ""


def _invert(table: Mapping[str, str]) -> dict[str, str]:
    """Name → code. Where a set gives a private code of its own beside a standard one, the standard one holds."""
    found: dict[str, str] = {}
    for code, name in sorted(table.items(), key=lambda item: is_private(item[0])):
        found.setdefault(name, "-".join(points(code)))
    return found


def is_private(code: str) -> bool:
    """Whether a code uses points that Unicode leaves to private agreement, so that it means nothing elsewhere."""
    return any(0xE000 <= int(p, 16) <= 0xF8FF or int(p, 16) >= 0xF0000 for p in points(code))


def _same_names(sets: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Names that some set declares to be the very same picture (an alias without a turn or a flip)."""
    same: defaultdict[str, list[str]] = defaultdict(list)
    for icon_set in sets:
        for alias, entry in icon_set.get("aliases", {}).items():
            if set(entry) <= {"parent", "hidden"}:
                same[alias].append(entry["parent"])
                same[entry["parent"]].append(alias)
    return dict(same)


def _unicode_names() -> dict[str, str]:
    """Slugs of the names of all symbols and pictographs in the Unicode standard."""
    found: dict[str, str] = {}
    for first, last in ((0x2100, 0x2C00), (0x3000, 0x3040), (0x3200, 0x3300), (0x1F000, 0x1FB00), (0x21, 0x40)):
        for point in range(first, last):
            name = unicodedata.name(chr(point), "")
            if name:
                found.setdefault(slug(name), f"{point:x}")
    return found


_TONE_ENDING = re.compile(
    r"-(?:tone(?P<number>[1-5])|(?P<word>medium-light|medium-dark|medium|light|dark)(-skin-tone)?)$"
)


def _split_tone(name: str) -> tuple[str, str]:
    """``skier-medium-dark`` → (``skier``, ``1f3fe``); no tone gives an empty one."""
    match = _TONE_ENDING.search(name)
    if not match:
        return name, ""
    number, word = match["number"], match["word"]
    tone = list(TONES)[int(number) - 1] if number else TONE_OF_NAME[word]
    return name[: match.start()], tone


def _with_tone(code: str, tone: str) -> str:
    """Put the tone behind the first code point, where Unicode has it."""
    first, *rest = points(code)
    return "-".join([first, tone, *rest])
