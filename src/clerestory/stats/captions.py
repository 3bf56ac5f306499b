"""Metrics of captions: CIDEr-D against references, CLIPScore against the image itself.

Dimensions: N captions, D features.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clerestory.core.errors import InputError
from clerestory.stats.ood import unit_rows

Floats = NDArray[np.float64]
Vector = dict[tuple[str, ...], float]

MAX_NGRAM = 4
SIGMA = 6.0
SCALE = 10.0
CLIP_WEIGHT = 2.5
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def tokenise(text: str) -> list[str]:
    """Lower-case words without punctuation.

    A simple replacement of the original's Penn Treebank tokeniser: words are runs of letters, digits and underscores;
    an apostrophe inside a word stays (the original splits ``it's`` into ``it`` and ``'s``); a hyphen separates words.
    Published CIDEr values were computed with the original, so values of this one compare only with one another.
    """
    return _WORD.findall(text.lower())


class CiderD:
    """CIDEr-D (Vedantam et al. 2015) with the document frequencies of one set of references.

    For each n in 1…4, n-grams are weighted by count · ln(I / number of images whose references contain the n-gram),
    with I images. The candidate's counts are clipped to the reference's; their product is divided by both lengths,
    multiplied by a Gaussian (σ = 6) of the difference in words, averaged over n and over references, and multiplied by
    10. A candidate equal to its only reference scores 10, but only 2.5 · its number of words when it has fewer than
    four; words in the references of every image have no weight.

    Args:
        references: one list of captions per image.

    Raises:
        InputError: fewer than two images, so that every n-gram would have no weight.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        if len(references) < 2:
            raise InputError(
                f"CIDEr needs the references of two images or more, got {len(references)}",
                "give those of the whole split",
            )
        self._num_images = len(references)
        self._document_counts = Counter(
            gram for captions in references for gram in {g for c in captions for g in _ngrams(tokenise(c))}
        )

    def score(self, candidate: str, references: Sequence[str]) -> float:
        """The score of one candidate against its own references.

        Raises:
            InputError: it has no reference.
        """
        if not references:
            raise InputError(f"the caption {candidate[:40]!r} has no reference", "add one, or remove the caption")
        words = tokenise(candidate)
        vectors = self._vectors(words)
        total = 0.0
        for reference in references:
            other = tokenise(reference)
            cosines = [_clipped_cosine(a, b) for a, b in zip(vectors, self._vectors(other), strict=True)]
            total += sum(cosines) / MAX_NGRAM * math.exp(-((len(words) - len(other)) ** 2) / (2 * SIGMA**2))
        return SCALE * total / len(references)

    def _vectors(self, words: list[str]) -> list[Vector]:
        """The weighted n-grams of each length."""
        vectors: list[Vector] = [{} for _ in range(MAX_NGRAM)]
        for gram, count in _ngrams(words).items():
            rarity = math.log(self._num_images / max(1, self._document_counts[gram]))
            vectors[len(gram) - 1][gram] = count * rarity
        return vectors


def clip_score(image_ND: ArrayLike, text_ND: ArrayLike) -> Floats:
    """CLIPScore of each caption (N,): 2.5 · max(cosine, 0), 0…2.5 (Hessel et al. 2021).

    The embeddings must come from one dual encoder; scores of different encoders are not comparable.

    Raises:
        InputError: embeddings of different shapes, not finite, or zero.
    """
    return CLIP_WEIGHT * np.maximum(_cosines(image_ND, text_ND, "images"), 0.0)


def _ngrams(words: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for n in range(1, MAX_NGRAM + 1) for i in range(len(words) - n + 1))


def _clipped_cosine(ours: Vector, theirs: Vector) -> float:
    lengths = math.hypot(*ours.values()) * math.hypot(*theirs.values())
    if lengths == 0.0:
        return 0.0
    return (
        math.fsum(min(weight, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0) for gram, weight in ours.items()) / lengths
    )


def _cosines(first: ArrayLike, second: ArrayLike, name: str) -> Floats:
    a_ND, b_ND = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a_ND.ndim != 2 or a_ND.shape != b_ND.shape or not a_ND.size:
        raise InputError(
            f"the embeddings have the shapes {a_ND.shape} and {b_ND.shape}", "give one row of each per pair"
        )
    if not (np.isfinite(a_ND).all() and np.isfinite(b_ND).all()):
        raise InputError("an embedding is not finite", "remove unscored samples")
    found: Floats = np.einsum("nd,nd->n", unit_rows(a_ND, name), unit_rows(b_ND, "captions"))
    return found
