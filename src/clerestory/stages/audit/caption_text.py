"""Faults that one caption shows by itself: a file name, a placeholder, markup, damaged characters, its language.

Each function answers for one text and is silent if it cannot say: a false alarm costs a person a look at an image.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib.resources import files

from clerestory.models.languages import LANGUAGE_NAMES, language_detector
from clerestory.stages.audit.caption_findings import Boilerplate

MAX_TOKENS = 256  # of a caption that the text tower reads
MIN_WORDS = 4  # with fewer, the detector of languages guesses
MIN_UNSPACED = 8  # letters of a script without blanks between words
MAX_PROBABILITY = 1e-4  # of the recorded language, and
MIN_PROBABILITY = 0.9  # of another one: 1 false alarm, a German name, in 22,000 captions in eight languages

_IMAGE_FILE = re.compile(
    r"(?:\S+|[\w ().,-]{1,80})\.(?:jpe?g|png|gif|webp|bmp|tiff?|hei[cf]|avif|svg|raw|cr2|nef)", re.I
)
_CAMERA_NAME = re.compile(
    r"(?:img|dsc[nf]?|pxl|mvimg|vid|gopr|p|sam|cimg|dji|scan|screen ?shot|bild|foto|photo|image|pic(?:t(?:ure)?)?|"
    r"whatsapp image|untitled|signal|fb_img|ezgif)[ _.-]*\d[\d _.:,()-]*(?:at [\d.:]+|wa\d+)?",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"(?=[0-9a-f_-]*\d)(?:[0-9a-f]{12,}|[0-9a-f]{8}(?:[-_][0-9a-f]{2,12}){2,5})|(?=.*\d{5})[\d _.-]+", re.I
)
_PLACEHOLDER_START = re.compile(
    r"this image has an empty alt attribute|image may contain|may be an image of|no photo description available"
    r"|image result for|lorem ipsum|click (?:here|on the image|to (?:enlarge|view|zoom))|opens? in a new (?:tab|window)"
    r"|as an ai\b|i'?m sorry, (?:but )?i (?:can|am|'m)"
    r"|i (?:cannot|can't|am unable to) (?:see|view|assist|provide|describe)"
    r"|\{\{|\$\{|<caption>|\[(?:image|photo|pic\w*|caption|alt)\]",
    re.IGNORECASE,
)

_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]{0,300})?/?>|<!--", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[a-z][a-z0-9]{1,30}|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"\b(?:https?|ftp)://\S|\bwww\.[a-z0-9-]+\.", re.IGNORECASE)
_MARKDOWN_LINK = re.compile(r"!?\[[^\]]{0,200}\]\((?:https?:)?[^)\s]{1,300}\)")

# UTF-8 that was read as Windows-1252, such as Ã¼ for ü and â€™ for an apostrophe.
_CP1252 = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xC0)}
_BYTE_OF = {character: byte for byte, character in _CP1252.items()}
_CONTINUATION = "[" + re.escape("".join(_CP1252.values())) + "]"
_QUOTES = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026"
# Leading bytes of Latin, Greek and Cyrillic letters (two bytes), other scripts and punctuation (three), emoji (four).
_MOJIBAKE = re.compile(
    rf"(?:[\xc2-\xc5\xce-\xd1]{_CONTINUATION}|[\xe0-\xef]{_CONTINUATION}{{2}}|\xf0{_CONTINUATION}{{3}})"
)
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffd\ufffe\uffff\ue000-\uf8ff]"
)
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|x[0-9a-f]{2})", re.IGNORECASE)

_TOKENS = re.compile(r"\w+|[^\w\s]")
_UNSPACED = re.compile(
    "[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Thai, Japanese, Chinese
)


def normalised(text: str) -> str:
    """The text for comparisons: compatible characters, case, punctuation and blanks do not count."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def boilerplate(text: str) -> Boilerplate | None:
    """Why a caption describes no image, whatever the image shows; None if it may describe one."""
    text = text.strip()
    if _IMAGE_FILE.fullmatch(text) or _CAMERA_NAME.fullmatch(text) or _KEY.fullmatch(text):
        return Boilerplate.FILE_NAME
    words = normalised(text)
    if words in _placeholders() or _PLACEHOLDER_START.match(text):
        return Boilerplate.PLACEHOLDER
    return None


def may_name_an_object(text: str) -> bool:
    """Whether a placeholder may also be the name of an object in the image."""
    return _placeholders().get(normalised(text), False)


@cache
def _placeholders() -> dict[str, bool]:
    """Whole captions, as ``normalised`` writes them, and whether they may name an object too (``?`` in the file)."""
    lines = files(__package__).joinpath("placeholders.txt").read_text(encoding="utf-8").splitlines()
    return {line.removeprefix("? "): line.startswith("? ") for line in lines}


def markup(text: str) -> tuple[str, ...]:
    """The kinds of markup in a text."""
    kinds = {
        "HTML tag": _TAG.search(text),
        "HTML entity": _ENTITY.search(text),
        "web address": _WEB_ADDRESS.search(text),
        "Markdown link": _MARKDOWN_LINK.search(text),
    }
    return tuple(kind for kind, match in kinds.items() if match)


def damaged_characters(text: str) -> tuple[str, ...]:
    """The kinds of damaged characters in a text."""
    kinds = {
        "UTF-8 read as another encoding": not text.isascii() and _is_mojibake(text),
        "control or replacement character": bool(_CONTROL.search(text)),
        "escape sequence": bool(_ESCAPE.search(text)),
    }
    return tuple(kind for kind, is_there in kinds.items() if is_there)


def _is_mojibake(text: str) -> bool:
    for match in _MOJIBAKE.finditer(text):
        before = text[match.start() - 1 : match.start()]
        # "LIBERTÃ”" may be a quotation in capitals.
        if len(match[0]) == 2 and match[0][1] in _QUOTES and before.isupper():
            continue
        sequence = bytes([ord(match[0][0]), *(_BYTE_OF[character] for character in match[0][1:])])
        try:
            original = sequence.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if unicodedata.category(original) not in ("Cn", "Cc", "Co"):
            return True
    return False


def min_tokens(text: str) -> int:
    """The least number of tokens that a WordPiece tokenizer makes: words, marks, and the first and last token."""
    unspaced = len(_UNSPACED.findall(text))
    return len(_TOKENS.findall(_UNSPACED.sub(" ", text) if unspaced else text)) + unspaced + 2


def is_long(text: str) -> bool:
    """Whether a text tower of 256 tokens certainly does not read the whole text."""
    return 2 * len(text) > MAX_TOKENS and min_tokens(text) > MAX_TOKENS


def other_language(text: str, lang: str) -> str | None:
    """The code of the language of a text that is certainly not in the recorded one.

    Returns:
        The recorded language itself if it may well be that one; None if it cannot be said: the text is too short, or
        the detector is unsure or does not know the recorded language.
    """
    code = lang.replace("_", "-").partition("-")[0].lower()
    code = "no" if code in ("nb", "nn") else code
    if code not in LANGUAGE_NAMES or not _is_enough(text):
        return None
    probabilities = dict(language_detector().rank(text.lower()))
    best = max(probabilities, key=probabilities.__getitem__)
    if best == code or {best, code} == {"da", "no"}:
        return code
    is_other = probabilities[best] >= MIN_PROBABILITY and probabilities[code] <= MAX_PROBABILITY
    return best if is_other else None


def num_words(text: str) -> int:
    """Words of a text; without blanks between words, letters."""
    return len(re.findall(r"\w+", _UNSPACED.sub(" ", text))) + len(_UNSPACED.findall(text))


def _is_enough(text: str) -> bool:
    unspaced = len(_UNSPACED.findall(text))
    return unspaced >= MIN_UNSPACED or len(re.findall(r"[^\W\d_]+", text)) >= MIN_WORDS
