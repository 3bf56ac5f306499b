"""Answers as tables write them, options as prompts list them, and the score of a choice."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import DataError
from clerestory.models.replies.keys import casefold_key, match_text
from clerestory.models.replies.labels import option_labels
from clerestory.models.replies.reading import read_yes_no

# What a cell of a table may hold besides the words that a model would use.
YES_CELLS, NO_CELLS = frozenset(("yes", "true", "1", "y", "t")), frozenset(("no", "false", "0", "n", "f"))


def format_options(options: Sequence[str]) -> str:
    """The options as lines ``A. …``; after ``Z`` comes ``AA``."""
    return "\n".join(f"{label}. {option}" for label, option in zip(option_labels(len(options)), options, strict=True))


def parse_yes_no(cell: str) -> str:
    """``yes`` or ``no``, as a cell of a table says it; empty if it says neither."""
    value = casefold_key(cell)
    if value in YES_CELLS or value in NO_CELLS:
        return "yes" if value in YES_CELLS else "no"
    return read_yes_no(cell) or ""


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
    index = match_text(answer, options)
    if index is not None:
        return index
    labels, letter = option_labels(len(options)), answer.strip().strip("().").upper()
    if letter in labels:
        return labels.index(letter)
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
