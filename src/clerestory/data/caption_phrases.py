"""Captions for icons: plain English phrases from the labels of emojibase and from icon names."""

from __future__ import annotations

import re
import unicodedata

_WITH_ARTICLE = re.compile(
    r"(Islands|Territories|Territory|Republic|Emirates|Kingdom|States|Nations|Union|Maldives|Bahamas|Gambia|Netherlands"
    r"|Philippines|Comoros|Seychelles|Isle of Man)$"
)
_KEYCAP_NAMES = {"*": "asterisk", "#": "number sign"}
_PEOPLE = {"man", "woman", "person", "boy", "girl", "adult", "child"}
_SMALL_WORDS = {"and", "of", "la", "de"}
_REGION_FLAG = re.compile(r"^1f3f4(-e00[0-9a-f]{2})+$")


def phrase(label: str) -> str:
    """An emojibase label as a plain English phrase.

    ``flag: Kenya`` → ``flag of Kenya``; ``family: man, woman, boy`` → ``family of man, woman and boy``;
    ``woman: dark skin tone, red hair`` → ``woman with red hair and dark skin tone``;
    ``person walking: light skin tone, facing right`` → ``person walking facing right with light skin tone``.
    """
    text = label.replace("“", '"').replace("”", '"').replace("’", "'").strip()
    head, colon, tail = text.partition(": ")
    if not colon:
        return text
    if head == "flag":
        return f"flag of {'the ' if _WITH_ARTICLE.search(tail) else ''}{tail}"
    if head == "keycap":
        return f"keycap {_KEYCAP_NAMES.get(tail, tail)}"
    return _with_details(head, tail.split(", "))


def _with_details(head: str, details: list[str]) -> str:
    people = [d for d in details if d in _PEOPLE]
    tones = [d for d in details if d.endswith("skin tone")]
    traits = [d for d in details if d not in people and d not in tones]
    if "bald" in traits:
        head = f"bald {head}"
    if "facing right" in traits:
        head = f"{head} facing right"
    if people:
        head = f"{head} of {_join(people)}" if head == "family" else f"{head} between {_join(people)}"
        head = head.replace("couple with heart between", "couple with heart,")
    other = [t for t in traits if t not in ("bald", "facing right")]
    return f"{head} with {_join([*other, *tones])}" if other or tones else head


def name_phrase(name: str, code: str) -> str:
    """A phrase for an icon that is not in emojibase: the Unicode name of its character, else its own name."""
    if _REGION_FLAG.match(code):
        place = re.sub(r"^flag-|-flag$", "", name).split("-")
        return "flag of " + " ".join(word if word in _SMALL_WORDS else word.capitalize() for word in place)
    if code and "-" not in code and (standard := unicodedata.name(chr(int(code, 16)), "")):
        return standard.lower()
    return name.replace("-", " ")


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
