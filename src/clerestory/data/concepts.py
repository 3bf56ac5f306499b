"""Concepts: one name for all images of the same thing, in any icon set, skin tone and gender.

A concept is a code point sequence without its variants (``emoji_names.concept_code``). Codes that share a
byte-identical image or a caption are merged, so that they do not leak from one split into another.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from clerestory.data import emoji_names
from clerestory.data.splits import connected_components


@dataclass(frozen=True, slots=True)
class IconRecord:
    """The fields of an icon that determine its concept.

    Attributes:
        code: canonical code, empty when unknown.
        name: the icon's name in its set.
        caption: its English caption.
        image: SHA-256 of its image.
    """

    code: str
    name: str
    caption: str
    image: str


def concepts(icons: Sequence[IconRecord], emoji: Mapping[str, emoji_names.Emoji]) -> list[str]:
    """The concept of every icon, in order."""
    keys = [_key(icon) for icon in icons]
    links: list[tuple[Hashable, Hashable]] = []
    for key, icon in zip(keys, icons, strict=True):
        links += [(key, ("image", icon.image)), (key, ("caption", icon.caption.lower()))]
    component = connected_components(links)
    plain = _neutral_codes(emoji)
    best: dict[Hashable, tuple[bool, int, str]] = {}
    names = {key: _name(key, icon, plain, emoji) for key, icon in zip(keys, icons, strict=True)}
    for key, count in Counter(keys).items():
        root = component[key]
        best[root] = max(best.get(root, (False, -1, "")), (key in plain, count, names[key]))
    return [best[component[key]][2] for key in keys]


def _key(icon: IconRecord) -> str:
    if icon.code and not emoji_names.is_private(icon.code):
        return emoji_names.concept_code(icon.code)
    return f"={emoji_names.neutral_name(icon.name)[0]}"


def _neutral_codes(emoji: Mapping[str, emoji_names.Emoji]) -> dict[str, str]:
    """For every concept code its emoji without tone and gender."""
    best: dict[str, tuple[bool, bool, bool, int, str]] = {}
    for code in emoji:
        key = emoji_names.concept_code(code)
        rank = (code != key, emoji_names.gender(code) != "none", emoji_names.skin_tone(code) != "none", len(code), code)
        best[key] = min(best.get(key, rank), rank)
    return {key: rank[-1] for key, rank in best.items()}


def _name(key: str, icon: IconRecord, plain: Mapping[str, str], emoji: Mapping[str, emoji_names.Emoji]) -> str:
    """A readable name: emojibase's label, the Unicode name of a single character, or the icon's name in its set."""
    if key in plain:
        return emoji_names.slug(emoji[plain[key]].label)
    if key.startswith("="):
        return key.removeprefix("=")
    return emoji_names.slug(standard_name(key)) or emoji_names.neutral_name(icon.name)[0]


def standard_name(code: str) -> str:
    """The Unicode name of a code of one public character in lower case, else empty."""
    if not code or "-" in code or code.startswith("="):
        return ""
    return unicodedata.name(chr(int(code, 16)), "").lower()
