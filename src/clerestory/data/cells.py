"""The cells of tables: what a value of any type means as text, as captions, as keywords or as a mapping.

Tables come from many programs, so one thing has many spellings here: a missing value, a list, a mapping.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import re
import uuid
import warnings
from collections.abc import Callable
from typing import Any

from clerestory.core.sample import Caption
from clerestory.core.text import valid_unicode
from clerestory.data.findings import EmptyCaption

# What pandas.read_csv reads as missing, and what it and other libraries write for it.
MISSING = frozenset(
    (
        *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "-NaN", "-nan", "NaN", "nan", "NAN"),
        *("<NA>", "N/A", "n/a", "NA", "NULL", "Null", "null", "(null)", "<null>", "None", "NaT"),
    )
)
_LANGUAGE_CODES = (  # ISO 639-1, and languages that have only a code of three letters
    "aa ab af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el "
    "en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it "
    "iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt "
    "my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk "
    "sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi "
    "yo za zh zu ast ceb ckb fil gsw haw hmn nds sco yue "
)
LANGUAGES = frozenset(_LANGUAGE_CODES.split())
MAX_LITERAL = 1_000_000  # characters of a list or a mapping in a cell
_SCALARS = (str, int, float, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta, uuid.UUID)
_STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_STRING_LIST = re.compile(rf"[\[(]\s*{_STRING}(?:\s*,\s*{_STRING}|\s+{_STRING})*\s*,?\s*[\])]", re.DOTALL)


def text_of(value: Any) -> str:
    """A value as one line of text; empty if it is missing, or is not a single value."""
    if isinstance(value, str):
        text = valid_unicode(" ".join(value.split()))
    elif isinstance(value, bool):
        return str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        return str(int(value))
    elif isinstance(value, _SCALARS):
        text = str(value)
    else:
        return ""
    return "" if text in MISSING else text


def file_of(value: Any) -> str:
    """The path of an image as the table has it, also from ``{"path": …}`` or a list of one; empty if missing."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("path")
    if not isinstance(value, str):
        return text_of(value)
    path = value.strip()
    return "" if path in MISSING else path


def is_missing(value: Any) -> bool:
    """Whether a cell has no content: none of a text, a number, bytes, or a list or mapping that is not empty."""
    return not value if isinstance(value, list | tuple | dict | bytes | set) else value is None or not text_of(value)


def is_single(value: Any) -> bool:
    """Whether a value is missing or a text, a number, a date: not a list, a mapping or bytes."""
    return value is None or isinstance(value, _SCALARS)


def full_text(value: Any) -> str:
    """A value as a string of any length; a list or a mapping as JSON."""
    if isinstance(value, list | dict):
        return valid_unicode(json.dumps(value, ensure_ascii=False, default=str))
    return text_of(value)


def captions_of(value: Any, lang: str) -> tuple[list[Caption], list[EmptyCaption]]:
    """The captions of a cell, and the reason for each part of it that is not one.

    A cell is a text; a list of texts, also as the JSON or the Python representation of one; a mapping
    ``{"text", "lang", "kind"}``, or of languages to captions; or a list of any of these.
    """
    captions: list[Caption] = []
    problems: list[EmptyCaption] = []
    value = _parsed(value, "[(")
    for item, item_lang, kind in _caption_items(value, lang):
        text = text_of(item)
        if text:
            captions.append(Caption(text, item_lang, kind))
        elif not is_single(item):
            problems.append(EmptyCaption.NOT_TEXT)
        elif isinstance(item, str) or isinstance(value, list | tuple | dict):
            problems.append(EmptyCaption.NO_TEXT)
    return captions, problems


def keywords_of(value: Any) -> list[str]:
    """The keywords of a cell: a text with separators, a list (also its JSON or Python representation), or one value."""
    value = _parsed(value, "[({")
    if isinstance(value, str):
        value = re.split(r"[,;|]", value)
    elif not isinstance(value, list | tuple | set | frozenset):
        value = [value]
    return [text for item in value if (text := text_of(item))]


def mapping_of(value: Any) -> dict[str, str] | None:
    """The mapping in a cell, without missing values; None if the cell is neither missing nor a mapping of texts."""
    value = _parsed(value, "{[")
    if is_missing(value):
        return {}
    if isinstance(value, list | tuple):
        value = _pairs(value)
    if isinstance(value, dict):
        if any(not is_single(item) for item in value.values()):
            return None
        return {key: text for raw, item in value.items() if (key := text_of(raw)) and (text := text_of(item))}
    return None


def _pairs(items: list[Any] | tuple[Any, ...]) -> dict[Any, Any] | None:
    """Arrow returns a map as a list of pairs, other libraries as a list of ``{"key", "value"}``."""
    pairs = {}
    for item in items:
        if isinstance(item, dict) and set(item) == {"key", "value"}:
            item = (item["key"], item["value"])
        if not isinstance(item, list | tuple) or len(item) != 2 or not is_single(item[0]):
            return None
        pairs[item[0]] = item[1]
    return pairs


def _caption_items(value: Any, lang: str, depth: int = 0) -> list[tuple[Any, str, str]]:
    """Each part of a cell with its language and kind."""
    if isinstance(value, list | tuple) and depth < 3:
        return [part for item in value for part in _caption_items(item, lang, depth + 1)]
    if not isinstance(value, dict):
        return [(value, lang, "name")]
    if value and all(isinstance(key, str) and language(key) for key in value) and depth < 3:
        return [part for key, item in value.items() for part in _caption_items(item, language(key), depth + 1)]
    content = next((value[key] for key in ("text", "caption", "raw") if value.get(key) is not None), None)
    kind = "keyword" if value.get("kind") == "keyword" else "name"
    return [(content, text_of(value.get("lang")) or lang, kind)]


def language(tag: str) -> str:
    """The BCP 47 tag if it starts with the code of a language; else empty."""
    match = re.fullmatch(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)?", tag)
    return tag.replace("_", "-") if match and match[1].lower() in LANGUAGES else ""


def _parsed(value: Any, brackets: str) -> Any:
    """The list or mapping whose JSON or Python representation a text is; any other value unchanged."""
    if not isinstance(value, str) or len(value) > MAX_LITERAL or not value.lstrip().startswith(tuple(brackets)):
        return value
    text = value.strip()
    if _STRING_LIST.fullmatch(text):  # NumPy separates the items of a list with blanks only
        return [_literal(ast.literal_eval, item.group()) for item in re.finditer(_STRING, text, re.DOTALL)]
    for parse in (json.loads, ast.literal_eval):
        parsed = _literal(parse, text)
        if isinstance(parsed, list | tuple | dict):
            return parsed
    return value


def _literal(parse: Callable[[str], Any], text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes in foreign text
            return parse(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
