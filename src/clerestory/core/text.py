"""Foreign text, such as file names and captions of other people, made safe to store and to print."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

_SURROGATE = re.compile("[\ud800-\udfff]")
# Control characters except tab and newline, and the marks that change the direction of the text after them.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def valid_unicode(text: str) -> str:
    r"""The text with every surrogate as an escape, so that it can be encoded as UTF-8; other text is unchanged.

    Python represents a byte of a file name that is not UTF-8 as a surrogate; it becomes ``\xe9``, another surrogate
    ``\ud83d``.
    """
    return text if text.isascii() else _SURROGATE.sub(_surrogate_escape, text)


def visible(text: str) -> str:
    """The text as it can be printed on a terminal: control characters and surrogates as escapes."""
    return _INVISIBLE.sub(_control_escape, valid_unicode(text))


def is_printable_name(name: str) -> bool:
    """Whether a name can stand in a table and a command: short, on one line, no path, begins with a letter or digit."""
    plain = name.isprintable() and not set(name) & set("/\\") and name == name.strip()
    return plain and len(name) <= 100 and name[:1].isalnum()


def loose_name(name: str) -> str:
    """A file name for comparing names that look the same: composed Unicode, and every run of blanks as one space."""
    return " ".join(name.split()) if name.isascii() else " ".join(unicodedata.normalize("NFC", name).split())


def words_of(text: str) -> list[str]:
    """The words of a text in their order, as they are spelled, in composed Unicode (NFC).

    A word has letters, digits and combining marks. An apostrophe, a hyphen or a full stop between two of them belongs
    to the word ("grandma's", "ice-cream", "3.5"), and so do the joiners of Persian and Hindi.
    """
    return _ascii_word().findall(text) if text.isascii() else _word().findall(unicodedata.normalize("NFC", text))


@cache
def _ascii_word() -> re.Pattern[str]:
    return re.compile(r"[a-zA-Z0-9]+(?:['.-][a-zA-Z0-9]+)*")


@cache
def _word() -> re.Pattern[str]:
    """The words of any script: ``re`` has no class for combining marks, so it is made once, in 0.2 s."""
    marks = [code for code in range(128, sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("M")]
    first = [code for i, code in enumerate(marks) if not i or code > marks[i - 1] + 1]
    last = [code for i, code in enumerate(marks) if i + 1 == len(marks) or code < marks[i + 1] - 1]
    ranges = "".join(f"{chr(low)}-{chr(high)}" for low, high in zip(first, last, strict=True))
    part = rf"[^\W_](?:[^\W_]|[{ranges}])*"
    return re.compile(rf"{part}(?:['\u2019.\u2010\u2011\u200c\u200d-]{part})*")


def _surrogate_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _control_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
