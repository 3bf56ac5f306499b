"""Foreign text, such as file names and captions of other people, made safe to store and to print."""

from __future__ import annotations

import re
import unicodedata

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


def _surrogate_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _control_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
