"""Words learned from captions: a ridge regression from the features of a photograph to each word.

Shape suffixes: N photographs, F features, T words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.text import words_of

Floats = NDArray[np.floating[Any]]

ARRAYS = ("weight", "bias", "threshold", "slope", "offset")
MAX_PHRASE = 3  # words
_INNER = re.compile("['\u2019.\u2010\u2011-]")  # what may be inside a word
_PLURALS = (
    ("men", "man"),
    ("people", "person"),
    ("children", "child"),
    ("ies", "y"),
    ("ves", "f"),
    ("es", ""),
    ("s", ""),
)


@dataclass(frozen=True, slots=True)
class LearnedTags:
    """Words with their regression.

    Attributes:
        names: the words.
        weight: ``(F, T)``.
        bias: (T).
        threshold: the score from which on a word is a tag (T).
        slope, offset: of the logistic map from scores to probabilities (T).
    """

    names: tuple[str, ...]
    weight: Floats
    bias: Floats
    threshold: Floats
    slope: Floats
    offset: Floats

    def probable(self, features_NF: Floats) -> list[list[tuple[str, float]]]:
        """The words of each photograph whose score is high enough, with their probabilities."""
        scores_NT = features_NF @ self.weight + self.bias
        probabilities_NT = 1 / (1 + np.exp(-(self.slope * scores_NT + self.offset)))
        return [
            [(name, float(p)) for name, p, passes in zip(self.names, row, high, strict=True) if passes]
            for row, high in zip(probabilities_NT, scores_NT >= self.threshold, strict=True)
        ]

    def tensors(self) -> dict[str, Floats]:
        """The arrays by name, for a file."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_tensors(cls, names: Iterable[str], named: dict[str, Floats]) -> LearnedTags:
        """The words with the arrays that ``tensors`` returned.

        Raises:
            KeyError: an array is missing.
            TypeError: the words are not a list of texts; they come from a file that anybody may have written.
            ValueError: the arrays do not fit the words.
        """
        words = tuple(names)
        if isinstance(names, (str, dict)) or not all(isinstance(word, str) for word in words):
            raise TypeError("the words are not a list of texts")
        arrays = [named[name].astype(np.float64) for name in ARRAYS]
        if arrays[0].ndim != 2 or any(array.shape[-1:] != (len(words),) for array in arrays):
            raise ValueError("the arrays do not fit the words")
        return cls(words, *arrays)


def phrases_of(texts: Iterable[str]) -> set[str]:
    """The words and phrases of up to ``MAX_PHRASE`` words, as they are and in the singular (English rules).

    A word with a hyphen or an apostrophe counts as a whole, and so does each part: "t-shirt" and "shirt", "dog's" and
    "dog".
    """
    found = set()
    for text in texts:
        whole = words_of(text.lower())
        parts = [part for word in whole for part in _INNER.split(word)]
        phrases = {
            " ".join(words[i : i + n])
            for words in (whole, parts)
            for n in range(1, MAX_PHRASE + 1)
            for i in range(len(words) - n + 1)
        }
        found |= phrases
        found |= {p[: -len(end)] + single for p in phrases for end, single in _PLURALS if p.endswith(end)}
    return found
