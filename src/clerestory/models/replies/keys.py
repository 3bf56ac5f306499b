"""Comparison of short texts such as answers and options: exact, then without case, then normalised.

Normalised texts differ in words, numbers, signs, symbols, marks or emoji: ``-5`` is not ``5``, ``C#`` is not ``C``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\s+(?=\S)")
_MINUS = re.compile(r"[\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d](?=\s?[.,]?\d)")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_UNIT = re.compile(r"(?<=\d)\s+(?=[%‰°])|(?<=[$€£¥₹])\s+(?=\d)")
_SIGN = re.compile(r"(?<![^\s(\[$€£¥₹])([-+±])\s+(?=\d)")
VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f]")


def casefold_key(text: str) -> str:
    """A text in one Unicode form, without case and extra spaces."""
    composed = unicodedata.normalize("NFC", VARIATION_SELECTORS.sub("", text))
    return unicodedata.normalize("NFC", " ".join(composed.casefold().split()))


def normalize_answer(text: str) -> str:
    """A text without case, punctuation, leading articles and extra spaces, so that ``A dog.`` is ``dog``.

    Everything that can make a difference stays: letters and their marks, digits, symbols and emoji, the signs and
    separators of numbers, ``%``, and ``#`` or ``+`` after a letter. A text of nothing else is kept whole.
    """
    text = _UNIT.sub("", _THOUSANDS.sub(_without_commas, _MINUS.sub("-", casefold_key(text))))
    text = _SIGN.sub(r"\1", text)
    plain = "".join(char if _is_significant(text, i) else " " for i, char in enumerate(text))
    return " ".join(_ARTICLES.sub("", " ".join(plain.split())).split()) or casefold_key(text)


def _without_commas(match: re.Match[str]) -> str:
    return match[0].replace(",", "")


def _is_significant(text: str, i: int) -> bool:
    char, before, after = text[i], text[i - 1 : i], text[i + 1 : i + 2]
    category = unicodedata.category(char)
    if category[0] in "LMNS" or category == "Cf":  # Cf joins emoji and Persian letters
        return char not in "`´¨"
    if char in "%‰&@§":
        return True
    if char == "#":
        return bool(before) and before.isalnum() or bool(after) and after.isalnum()
    if char == "*":
        return bool(before) and not before.isspace() and bool(after) and not after.isspace()
    if char == "-":  # a sign, a range; between words it is a space
        return after[:1].isdigit() or (after in (".", ",") and text[i + 2 : i + 3].isdigit())
    if char in ".,:/'’":  # inside a number, a time, a date, a fraction; ``.5``
        return after.isdigit() and (before.isdigit() or (char == "." and not before.isalpha()))
    return False


KEYS: tuple[Callable[[str], str], ...] = (str.strip, casefold_key, normalize_answer)


def match_text(text: str, options: Sequence[str]) -> int | None:
    """The option that a text is: exactly, else without case, else normalised; a tie at one step goes to the next.

    Two options that are equal only when normalised are told apart by what the earlier steps keep.
    """
    for key in KEYS:
        wanted = key(text)
        found = [i for i, option in enumerate(options) if wanted and key(option) == wanted]
        if found:
            same = {options[i].strip() for i in found}
            return found[0] if len(same) == 1 else None
    return None


def same_answer(text: str, correct: str) -> bool:
    """Whether two texts are the same answer when normalised."""
    return normalize_answer(text) == normalize_answer(correct)
