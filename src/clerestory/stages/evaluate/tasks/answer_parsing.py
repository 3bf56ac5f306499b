"""Parses the text of an answer, of a model or in a table, to the option or value that it means."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import DataError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
YES, NO = ("yes", "true", "1", "y", "correct"), ("no", "false", "0", "n", "incorrect")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
# "B", "(B)", "B.", "B: a dog", "Answer: B", "the answer is B", "option B"; a lone "A" that starts a sentence is a word.
_LEADING_LETTER = re.compile(r"^\s*\(?([A-Za-z])\s*(?:[).:,]|$)")
_NAMED_LETTER = re.compile(r"\b(?:answer|option|choice)\b\s*(?:is)?\s*:?\s*\(?([A-Z])\b", re.IGNORECASE)


def normalize_answer(text: str) -> str:
    """A text without case, punctuation, articles and extra spaces, so that ``A dog.`` is ``dog``."""
    plain = _PUNCTUATION.sub(" ", text.casefold())
    without_articles = " ".join(_ARTICLES.sub(" ", plain).split())
    return without_articles or " ".join(plain.split())


def format_options(options: Sequence[str]) -> str:
    """The options as lines ``A. …``."""
    return "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options))


def parse_option(text: str, options: Sequence[str]) -> int | None:
    """The option that an answer means: by its letter, its text, or as the only option it mentions; else None."""
    for pattern in (_LEADING_LETTER, _NAMED_LETTER):
        match = pattern.search(text)
        if match and (index := LETTERS.index(match[1].upper())) < len(options):
            return index
    answer, normalized = normalize_answer(text), [normalize_answer(option) for option in options]
    if answer in normalized:
        return normalized.index(answer)
    mentioned = [i for i, option in enumerate(normalized) if option and f" {option} " in f" {answer} "]
    return mentioned[0] if len(mentioned) == 1 else None


def parse_yes_no(text: str) -> str:
    """``yes`` or ``no``, by the first word that means one of them; empty if none does."""
    for word in normalize_answer(text).split():
        if word in YES or word in NO:
            return "yes" if word in YES else "no"
    return ""


def is_correct(scorer: str, answer: str, correct: Sequence[str]) -> bool:
    """Whether an answer is one of the correct ones, by ``exact``, ``normalised``, ``contains`` or ``yes_no``."""
    if scorer == "exact":
        return answer.strip() in correct
    if scorer == "yes_no":
        return bool(parse_yes_no(answer)) and parse_yes_no(answer) in {parse_yes_no(each) for each in correct}
    normalized = [normalize_answer(each) for each in correct]
    if scorer == "contains":
        return any(each and f" {each} " in f" {normalize_answer(answer)} " for each in normalized)
    return normalize_answer(answer) in normalized


def parse_list(cell: str) -> tuple[str, ...]:
    """The items of one cell: a JSON list, or strings separated by ``|``."""
    try:
        values = json.loads(cell) if cell.lstrip().startswith("[") else cell.split("|")
    except ValueError:
        values = cell.split("|")
    return tuple(text for value in values if (text := " ".join(str(value).split())))


def correct_option(answer: str, options: Sequence[str], where: str) -> int:
    """The option that a table's answer means: its text, its letter, or its number counted from 0.

    Raises:
        DataError: the answer is not one of the options.
    """
    normalized = [normalize_answer(option) for option in options]
    if normalize_answer(answer) in normalized:
        return normalized.index(normalize_answer(answer))
    letter = answer.strip().strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    if answer.strip().isdigit() and int(answer) < len(options):
        return int(answer)
    raise DataError(
        f"the answer {answer!r} of {where} is not one of its options ({', '.join(options)})",
        "write one of the options, its letter, or its number counted from 0",
    )


def option_score(scores: NDArray[np.float64], correct: int) -> float:
    """1 if the correct option has the highest of the scores (O,), 1 / the number of tied options in a tie, else 0."""
    best = np.flatnonzero(scores == scores.max())
    return 1.0 / len(best) if correct in best else 0.0
