"""Reading answers: from the words of a model, or of a table, to what was meant."""

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
_SIGNS = re.compile(r"[^\w\s]|_")
# "B", "(B)", "B.", "B: a dog", "Answer: B", "the answer is B", "option B"; a lone "A" that starts a sentence is a word.
_LETTER_FIRST = re.compile(r"^\s*\(?([A-Za-z])\s*(?:[).:,]|$)")
_LETTER_SAID = re.compile(r"\b(?:answer|option|choice)\b\s*(?:is)?\s*:?\s*\(?([A-Z])\b", re.IGNORECASE)


def normalised(text: str) -> str:
    """A text without case, punctuation, articles and extra spaces, so that ``A dog.`` is ``dog``."""
    plain = _SIGNS.sub(" ", text.casefold())
    without = " ".join(_ARTICLES.sub(" ", plain).split())
    return without or " ".join(plain.split())


def lettered(options: Sequence[str]) -> str:
    """The options as lines ``A. …``."""
    return "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options))


def chosen_option(text: str, options: Sequence[str]) -> int | None:
    """Which option an answer means: by its letter, its words, or the only option it mentions; None for none."""
    for pattern in (_LETTER_FIRST, _LETTER_SAID):
        match = pattern.search(text)
        if match and (place := LETTERS.index(match[1].upper())) < len(options):
            return place
    said, plain = normalised(text), [normalised(option) for option in options]
    if said in plain:
        return plain.index(said)
    mentioned = [i for i, option in enumerate(plain) if option and f" {option} " in f" {said} "]
    return mentioned[0] if len(mentioned) == 1 else None


def yes_or_no(text: str) -> str:
    """``yes`` or ``no``, by the first word that says so; empty for neither."""
    for word in normalised(text).split():
        if word in YES or word in NO:
            return "yes" if word in YES else "no"
    return ""


def right(scorer: str, said: str, answers: Sequence[str]) -> bool:
    """Whether a short answer is one of the right ones: ``exact``, ``normalised``, ``contains`` or ``yes_no``."""
    if scorer == "exact":
        return said.strip() in answers
    if scorer == "yes_no":
        return bool(yes_or_no(said)) and yes_or_no(said) in {yes_or_no(answer) for answer in answers}
    plain = [normalised(answer) for answer in answers]
    if scorer == "contains":
        return any(answer and f" {answer} " in f" {normalised(said)} " for answer in plain)
    return normalised(said) in plain


def listed(cell: str) -> tuple[str, ...]:
    """The texts of one cell: a JSON list, or separated by ``|``."""
    try:
        values = json.loads(cell) if cell.lstrip().startswith("[") else cell.split("|")
    except ValueError:
        values = cell.split("|")
    return tuple(text for value in values if (text := " ".join(str(value).split())))


def right_option(answer: str, options: Sequence[str], where: str) -> int:
    """Which option a table's answer means: its words, its letter, or its number counted from 0.

    Raises:
        DataError: none of them.
    """
    plain = [normalised(option) for option in options]
    if normalised(answer) in plain:
        return plain.index(normalised(answer))
    letter = answer.strip().strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    if answer.strip().isdigit() and int(answer) < len(options):
        return int(answer)
    raise DataError(
        f"the answer {answer!r} of {where} is none of its options ({', '.join(options)})",
        "write one of the options, its letter, or its number counted from 0",
    )


def credit(scores: NDArray[np.float64], right: int) -> float:
    """1 where the right option scores highest, a fair share where it is level with others, else 0."""
    best = np.flatnonzero(scores == scores.max())
    return 1.0 / len(best) if right in best else 0.0
