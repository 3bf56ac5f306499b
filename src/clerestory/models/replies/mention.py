"""A mention of an option in a text, and the forms of text in which mentions are searched."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from clerestory.models.replies.keys import VARIATION_SELECTORS

REASON, PLAIN, EXPLICIT = 0, 1, 2


@dataclass(slots=True)
class Mention:
    """An option in a text.

    Attributes:
        start, end: its place.
        option: its index.
        by_label: named by its letter and not by its text.
        solo: it stands alone at the start of a line, like ``B.`` or ``(B) a dog``.
        affirmed: it is not negated.
        weight: ``REASON``, ``PLAIN`` or ``EXPLICIT``.
    """

    start: int
    end: int
    option: int
    by_label: bool = False
    solo: bool = False
    affirmed: bool = True
    weight: int = PLAIN


def fold(text: str) -> str:
    """A text in lower case, with one minus and one apostrophe; each character keeps its place."""
    return "".join(_fold_char(char) for char in text)


def compose(text: str) -> str:
    """One Unicode form, without variation selectors."""
    return unicodedata.normalize("NFC", VARIATION_SELECTORS.sub("", text))


def _fold_char(char: str) -> str:
    if char in "\u2212\u2010\u2011\u2012\u2013\uff0d":
        return "-" if char != "\u2013" else "–"
    if char in "’ʼ＇":
        return "'"
    lower = char.lower()
    return lower if len(lower) == 1 else char
