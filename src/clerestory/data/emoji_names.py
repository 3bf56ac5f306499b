"""The emoji that an icon shows: from the names of the icon sets to Unicode code points, concepts and variants.

Half of the sets have the code points of an icon; the others only have names, some without separators (``loudlycrying``)
or abbreviated (``gma``). A name is resolved through, in this order: the table of its own set, a small manual table
(``icon_names.json``), the tables of the other sets, the labels of emojibase, names that a set declares as aliases,
shortcodes, and the names of the Unicode standard. Any other name stays unresolved.
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

# A gendered icon and its neutral one are the same concept (and so are all families, couples and kisses).
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
# Territories with the same flag as a country.
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
# Icons that differ only in direction are one concept.
DIRECTIONS = {"27a1"}


def slug(text: str) -> str:
    """``O'Clock & more`` → ``oclock-and-more``: lower-case ASCII letters and digits joined by hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = plain.replace("&", "and").replace("'", "").replace("*", "asterisk").replace("#", "hash")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def code_points(code: str) -> tuple[str, ...]:
    """The code points of ``1F9D1-200D-1F680`` in lower case, without presentation selectors and leading zeros."""
    return tuple(p.lstrip("0") for p in code.lower().split("-") if p and p != PRESENTATION)


def concept_code(code: str) -> str:
    """The code points without skin tone, gender, direction and joiners."""
    rest = [
        p for p in code_points(code) if p not in TONES and p not in DIRECTIONS and p not in ("2640", "2642", JOINER)
    ]
    if not rest:
        return "-".join(p for p in code_points(code) if p != JOINER)
    rest = [q for p in rest for q in NEUTRAL.get(p, p).split("-")]
    bare = [p for p in rest if p not in PEOPLE]
    if len(rest) > 1 and not bare:
        return FAMILY
    if len(rest) > 2 and bare and rest[0] in PEOPLE:
        if bare == ["2764", "1f48b"]:
            return KISS
        if bare == ["2764"]:
            return LOVERS
    if rest == ["1faf1", "1faf2"]:
        return HANDSHAKE
    if len(rest) == 1 and len(rest[0]) == 2:  # a bare digit, star or number sign: its keycap is the same concept
        rest.append(KEYCAP)
    code = "-".join(rest)
    return SAME_FLAG.get(code, code)


_GENDERED_NAME = re.compile(r"^(?P<a>man|woman)-|-(?P<b>man|woman)$")


def neutral_name(name: str) -> tuple[str, str]:
    """``gardener-woman`` → (``gardener``, ``woman``); for icons without a code."""
    match = _GENDERED_NAME.search(name)
    return (_GENDERED_NAME.sub("", name), match["a"] or match["b"]) if match else (name, "none")


def without_tone(code: str) -> str:
    """The code of the same emoji without a skin tone."""
    return "-".join(p for p in code_points(code) if p not in TONES)


def skin_tone(code: str) -> str:
    """``none``, one of the five tones, or ``mixed`` for people of different tones."""
    tones = {TONES[p] for p in code_points(code) if p in TONES}
    if code_points(code) and set(code_points(code)) <= set(TONES):
        return "none"  # a swatch of the tone, not a person
    return "none" if not tones else tones.pop() if len(tones) == 1 else "mixed"


def gender(code: str) -> str:
    """``woman``, ``man``, or ``none`` for neither or both."""
    genders = set()
    for point in code_points(code) if code not in ("2640", "2642") else ():
        if point in WOMEN or GENDER_OF_POINT.get(point) == "woman":
            genders.add("woman")
        if point in MEN or GENDER_OF_POINT.get(point) == "man":
            genders.add("man")
    return genders.pop() if len(genders) == 1 else "none"


@dataclass(frozen=True, slots=True)
class Emoji:
    """One entry of emojibase.

    Attributes:
        code: canonical code, see ``code_points``.
        label: the English name as in emojibase.
        group: the group key of emojibase, such as ``animals-nature``.
        tags: English keywords of the emoji without its variants.
    """

    code: str
    label: str
    group: str
    tags: tuple[str, ...]


def read_emoji(data: Iterable[Mapping[str, Any]], groups: Mapping[int, str]) -> dict[str, Emoji]:
    """Emojibase's ``data.json`` by canonical code, skin tone variants included."""
    emoji: dict[str, Emoji] = {}
    for entry in data:
        group = groups.get(entry.get("group", -1), "other")
        tags = tuple(entry.get("tags", ()))
        for each in (entry, *entry.get("skins", ())):
            code = "-".join(code_points(each["hexcode"]))
            emoji[code] = Emoji(code, each["label"], group, tags)
    return emoji


def manual_table() -> dict[str, Any]:
    """The manual table: codes, captions and view boxes by style and icon name; ``*`` is every style."""
    table: dict[str, Any] = json.loads(files("clerestory.data").joinpath("icon_names.json").read_text(encoding="utf-8"))
    return table


class NameResolver:
    """Resolves icon names to codes.

    Args:
        emoji: emojibase by code.
        sets: the Iconify icon sets (``icons.json``) by style.
        chars: the tables code → name (``chars.json``) of the sets that have one, by style.
        shortcodes: additional names of codes, such as ``{"1F44B": "wave"}``.
    """

    def __init__(
        self,
        emoji: Mapping[str, Emoji],
        sets: Mapping[str, Mapping[str, Any]],
        chars: Mapping[str, Mapping[str, str]],
        shortcodes: Mapping[str, str | list[str]],
    ) -> None:
        table = manual_table()
        self._manual: dict[str, dict[str, str]] = table["codes"]
        self._boxes: dict[str, dict[str, dict[str, float]]] = table["boxes"]
        self._captions: dict[str, dict[str, str]] = table["captions"]
        self._set_codes = {style: _invert(table) for style, table in chars.items()}
        self._codes: dict[str, str] = {}
        for style in chars:
            for name, code in self._set_codes[style].items():
                if code in emoji:
                    self._codes.setdefault(name, code)
        for code, each in emoji.items():
            self._codes.setdefault(slug(each.label), code)
        for style in chars:
            for name, code in self._set_codes[style].items():
                self._codes.setdefault(name, code)
        self._aliases = _alias_names(sets.values())
        self._shortcodes = {
            slug(name): "-".join(code_points(code))
            for code, names in shortcodes.items()
            for name in ([names] if isinstance(names, str) else names)
        }
        self._unicode = _unicode_names()
        self._without_separators: dict[str, str] = {}
        for names_to_codes in (self._codes, self._unicode):
            for name, code in names_to_codes.items():
                self._without_separators.setdefault(name.replace("-", ""), code)
        for name in self._aliases:
            if code := self._lookup_name(name):
                self._without_separators.setdefault(name.replace("-", ""), code)

    def code(self, style: str, name: str) -> str:
        """The canonical code of an icon, empty when it is unknown."""
        manual = self._manual.get(style, {}).get(name)
        if manual is not None:
            return manual
        own = self._set_codes.get(style, {}).get(name)
        if own:
            return own
        base, tone = _split_tone(name)
        if tone and not self._lookup_name(name) and (code := self._lookup(base)):
            return _with_tone(code, tone)
        return self._lookup(name)

    def caption(self, style: str, name: str) -> str:
        """The manual caption of an icon that is not in emojibase, else one derived from its name."""
        manual: str = self._captions.get(style, {}).get(name, "")
        return manual or caption_phrases.name_phrase(name, self.code(style, name))

    def box(self, style: str, name: str) -> dict[str, float]:
        """The manual view box of an icon that its own view box cuts off, else an empty mapping."""
        return self._boxes.get(style, {}).get(name, {})

    def _lookup(self, name: str) -> str:
        return (
            self._manual["*"].get(name)
            or self._lookup_name(name)
            or self._unicode.get(name)
            or self._without_separators.get(name.replace("-", ""))
            or self._shortcodes.get(name)
            or ""
        )

    def _lookup_name(self, name: str) -> str:
        if name in self._codes:
            return self._codes[name]
        if name.startswith("flag-for-"):
            # Before the aliases: a set that has the same image for two flags declares one an alias of the other.
            rest = name.removeprefix("flag-for-").removeprefix("flag-")
            code = self._lookup_name(f"flag-{rest}") or self._lookup_name(rest)
            if code:
                return code
        for other in self._aliases.get(name, ()):
            if other in self._codes:
                return self._codes[other]
        return ""


def _invert(table: Mapping[str, str]) -> dict[str, str]:
    """Name → code. Where a set has both a private code and a standard one, the standard one is used."""
    codes: dict[str, str] = {}
    for code, name in sorted(table.items(), key=lambda item: is_private(item[0])):
        codes.setdefault(name, "-".join(code_points(code)))
    return codes


def is_private(code: str) -> bool:
    """Whether a code contains points of a Unicode private use area, which have no meaning outside their set."""
    return any(0xE000 <= int(p, 16) <= 0xF8FF or int(p, 16) >= 0xF0000 for p in code_points(code))


def _alias_names(sets: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Names that some set declares to be the same image (an alias without rotation or flip)."""
    same: defaultdict[str, list[str]] = defaultdict(list)
    for icon_set in sets:
        for alias, entry in icon_set.get("aliases", {}).items():
            if set(entry) <= {"parent", "hidden"}:
                same[alias].append(entry["parent"])
                same[entry["parent"]].append(alias)
    return dict(same)


def _unicode_names() -> dict[str, str]:
    """Slugs of the names of all symbols and pictographs in the Unicode standard."""
    codes: dict[str, str] = {}
    for first, last in ((0x2100, 0x2C00), (0x3000, 0x3040), (0x3200, 0x3300), (0x1F000, 0x1FB00), (0x21, 0x40)):
        for point in range(first, last):
            name = unicodedata.name(chr(point), "")
            if name:
                codes.setdefault(slug(name), f"{point:x}")
    return codes


_TONE_ENDING = re.compile(
    r"-(?:tone(?P<number>[1-5])|(?P<word>medium-light|medium-dark|medium|light|dark)(-skin-tone)?)$"
)


def _split_tone(name: str) -> tuple[str, str]:
    """``skier-medium-dark`` → (``skier``, ``1f3fe``); the tone is empty when the name has none."""
    match = _TONE_ENDING.search(name)
    if not match:
        return name, ""
    number, word = match["number"], match["word"]
    tone = list(TONES)[int(number) - 1] if number else TONE_OF_NAME[word]
    return name[: match.start()], tone


def _with_tone(code: str, tone: str) -> str:
    """Insert the tone after the first code point, as in Unicode."""
    first, *rest = code_points(code)
    return "-".join([first, tone, *rest])
