"""Names of people: what two spellings of one name have in common, and which names are refused."""

from __future__ import annotations

import unicodedata

from clerestory.core.errors import InputError

# Code points that nobody sees although they are letters or marks (Unicode: Default_Ignorable_Code_Point).
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800") | {
    chr(code) for low, high in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)) for code in range(low, high + 1)
}
_JOINERS = "\u200c\u200d"  # part of the spelling in Persian and in Indic scripts
_UPRIGHT_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")  # with look-alikes of each other
# Lower-case letters by the Latin letter that they, or their capitals, look like (Unicode Technical Standard 39).
_LOOK_ALIKES = {
    "a": "\u0430\u03b1\u0251",
    "b": "\u0432\u03b2\u044c",
    "c": "\u0441\u03f2",
    "d": "\u0501",
    "e": "\u0435\u03b5\u0454",
    "g": "\u0261",
    "h": "\u043d\u03b7\u04bb",
    "i": "\u0456\u03b9\u04cf\u0131l1|",
    "j": "\u0458\u03f3",
    "k": "\u043a\u03ba",
    "m": "\u043c\u03bc",
    "n": "\u03bd\u0578",
    "o": "\u043e\u03bf\u0585\u05e10",
    "p": "\u0440\u03c1",
    "q": "\u051b",
    "s": "\u0455",
    "t": "\u0442\u03c4",
    "u": "\u057d",
    "v": "\u0475",
    "w": "\u051d\u03c9",
    "x": "\u0445\u03c7",
    "y": "\u0443\u03c5\u04af",
    "z": "\u03b6",
}
_SKELETON = str.maketrans({other: latin for latin, others in _LOOK_ALIKES.items() for other in others})


def person_key(name: str) -> str:
    """What two spellings of one person's name have in common.

    Case, blanks, punctuation, invisible characters, the form of letters and look-alikes of other scripts do not count,
    so that one person cannot be two. It errs on this side: two names that look the same are one.
    """
    seen = "".join(each for each in name if each not in _UNSEEN and unicodedata.category(each)[0] != "C")
    text = unicodedata.normalize("NFKC", seen).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_SKELETON)
    return "".join(each for each in text if unicodedata.category(each)[0] in "LMN" and each not in _UNSEEN)


def person_name(name: str) -> str:
    """The name of a person without invisible characters, and with single blanks.

    Raises:
        InputError: a word has letters of two scripts that look alike, or the name has no letter.
    """
    for word in name.split():
        scripts = sorted({script for each in word if (script := _script(each))})
        if len(scripts) > 1:
            mixed = " and ".join(each.capitalize() for each in scripts)
            raise InputError(
                f"the name {visible(name)!r} mixes {mixed} letters in one word, which may look like another name",
                "write each word of the name in one script",
            )
    shown = visible(name)
    if not person_key(shown):
        raise InputError(f"the name {shown!r} has no letter", "give the name of a person: --who NAME")
    return shown


def visible(name: str) -> str:
    """The text without control, format and other invisible characters, and with single blanks."""
    return " ".join("".join(each for each in name if each.isspace() or not _is_unseen(each)).split())


def _is_unseen(each: str) -> bool:
    return each not in _JOINERS and (each in _UNSEEN or unicodedata.category(each)[0] == "C")


def _script(each: str) -> str:
    """The script of a letter if it has look-alikes in others; empty for anything else."""
    if not each.isalpha():
        return ""
    first = unicodedata.name(unicodedata.normalize("NFKC", each)[0], "").partition(" ")[0]
    return first if first in _UPRIGHT_SCRIPTS else ""
