"""What surrounds an answer: Markdown, LaTeX, JSON and tags."""

from __future__ import annotations

import json
import re
from typing import Any

_ANSWER_NAMES = (
    r"(?:final[ _-]?)?(?:answer|choice|option|selection|conclusion|response|result|"
    r"output|prediction|verdict|antwort|respuesta|r[eé]ponse|"
    r"risposta|resposta|ответ|答案|回答|正解|정답|답|उत्तर|الإجابة|cevap)"
)
_TAGGED = re.compile(rf"<\s*({_ANSWER_NAMES})\s*>(.*?)(?:<\s*/\s*\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_BOX = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|$)", re.DOTALL)
_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{")
_ANSWER_KEY = re.compile(
    rf"(?:[a-z_ ]*[ _-])?{_ANSWER_NAMES}(?:[ _-](?:letter|text|option|choice|label|id|key))?", re.IGNORECASE
)
_OTHER_KEYS = (
    "letter",
    "label",
    "selected",
    "selected_option",
    "correct",
    "correct_option",
    "value",
    "text",
    "key",
    "id",
)
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w+-]*\s*$", re.MULTILINE)
_STRUCK = re.compile(r"~~.*?~~|<(?:s|del|strike)>.*?</(?:s|del|strike)>", re.DOTALL | re.IGNORECASE)
_LATEX_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mathit|mathsf|emph|operatorname)\s*\{([^{}]*)\}"
)
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|<\|[a-z_]+\|>", re.IGNORECASE)
_LINE_START = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*•‣▪][ \t]+)+", re.MULTILINE)
_EMPHASIS = [
    re.compile(r"(?<![\w*])(\*{1,3})(?=\S)([^*\n]+?)(?<=\S)\1(?![\w*])"),
    re.compile(r"(?<!\w)(_{1,3})(?=\S)([^_\n]+?)(?<=\S)\1(?!\w)"),
    re.compile(r"(?<!`)(`{1,3})(?!`)([^`\n]+?)\1(?!`)"),
    re.compile(r"(?<![\w$])(\${1,2})(?=[^\s\d])([^$\n]+?)(?<=\S)\1(?![\w$])"),
]
_JSON_START = re.compile(r"\{|\[(?=\s*[\[{\"'])")
_MAX_ATTEMPTS = 40


def explicit_answers(text: str) -> list[str]:
    r"""The contents of ``\boxed{…}``, of ``<answer>`` tags and of the answer in JSON, in the order of the text."""
    found: list[tuple[int, str]] = [(m.start(), m[2]) for m in _TAGGED.finditer(text)]
    found += [(m.start(), m[1]) for m in _BOX.finditer(text)]
    found += [(m.start(), braced(text, m.end())) for m in _BOXED.finditer(text)]
    found += _json_answers(text)
    return [content.strip() for _, content in sorted(found) if content.strip()]


def braced(text: str, start: int) -> str:
    """The text from a position to the brace that closes it; empty if none does."""
    depth = 1
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if not depth:
            return text[start:i]
    return ""


def _json_answers(text: str) -> list[tuple[int, str]]:
    found, decoder, position, attempts = [], json.JSONDecoder(), 0, 0
    while (match := _JSON_START.search(text, position)) is not None and attempts < _MAX_ATTEMPTS:
        attempts += 1
        position = match.end()
        for content in (text[match.start() :], text[match.start() :].replace("'", '"')):
            try:
                value, length = decoder.raw_decode(content)
            except (ValueError, RecursionError):
                continue
            answer = _answer_in(value)
            if answer:
                found.append((match.start(), answer))
            position = match.start() + length
            break
    return found


def _answer_in(value: Any, depth: int = 0) -> str:
    """The answer of a JSON value: of the key named so, of the only key, or of the only one that is true."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value) if depth else ""
    if isinstance(value, list):
        return _answer_in(value[0], depth + 1) if len(value) == 1 else ""
    if not isinstance(value, dict) or depth > 4:
        return ""
    named = [v for k, v in value.items() if _ANSWER_KEY.fullmatch(str(k).strip())]
    named = named or [v for name in _OTHER_KEYS for k, v in value.items() if str(k).strip().lower() == name]
    if named:
        return _answer_in(named[-1], depth + 1)
    if len(value) > 1 and all(isinstance(v, bool) for v in value.values()):
        chosen = [str(k) for k, v in value.items() if v]
        return chosen[0] if len(chosen) == 1 else ""
    return _answer_in(next(iter(value.values())), depth + 1) if len(value) == 1 else ""


def without_markup(text: str) -> str:
    """A text without Markdown, LaTeX and HTML; emphasised single letters become ``(B)``, struck text is left out."""
    text = _TAG.sub(" ", _STRUCK.sub(" ", _FENCE.sub("", text)))
    while _LATEX_COMMAND.search(text):
        text = _LATEX_COMMAND.sub(r"\1", text)
    text = re.sub(r"\\[()\[\]]", " ", text)
    for pattern in _EMPHASIS:
        for _ in range(3):
            text = pattern.sub(_emphasised, text)
    return _LINE_START.sub("", text).strip()


def _emphasised(match: re.Match[str]) -> str:
    content = match[2].strip()
    return f"({content})" if len(content) == 1 and content.isalpha() else content
