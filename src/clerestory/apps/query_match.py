"""Whether a text matches any image of an index at all, measured against texts that nothing can match.

The nearest image of any query has some similarity, so a search always finds something. A query is called answerable if
the image at some rank is more similar to it than a minimum. Rank and minimum are chosen for each model and dataset on
queries that are made from these alone:

- answerable: captions of the dataset, of concepts held out from training where there are some;
- unanswerable: random letters, and two or three random words of the model's vocabulary that are in no caption.

Of every second query of each kind the rank and the minimum with the highest balanced accuracy are chosen; on the others
the false alarms and the misses are counted. Images with few captions have no answerable queries to choose with: there
the minimum is what 90 % of random words do not exceed (of 40 everyday queries about 1,000 photographs 88 % exceeded it,
of 28 queries about things that none of them shows 7 %).
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.search import SearchIndex
from clerestory.core.sample import Sample
from clerestory.models.languages import vocabulary_of
from clerestory.models.protocols import Embedder

NUM_RANDOM = 200  # texts of each kind
MIN_IMAGES = 10  # with fewer, the nearest image says too little
MIN_KNOWN = 40  # with fewer answerable queries, only random letters count
RANKS = (1, 2, 5, 10, 20)
IMAGES_PER_RANK = 100
QUANTILE, LETTERS_QUANTILE = 0.9, 0.95  # letters resemble no query, so they need a stricter one
LIKELY_QUANTILE = 0.99
MIN_LETTERS = 4  # of a word of the vocabulary
SEED = 0

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """The similarity that a query needs to be answerable.

    Attributes:
        rank: the similarity of the image at this rank is compared; a single close image may be a coincidence.
        minimum: the least similarity at this rank.
        num_known: the number of answerable queries on which false alarms were counted.
        false_alarms: the number of them that are not answerable by this test.
        num_random: the number of unanswerable queries on which misses were counted.
        misses: the number of them that are answerable by this test.
        possible, likely: the similarity that the nearest image of 10, and of 1, in 100 random queries has.
    """

    rank: int
    minimum: float
    num_known: int
    false_alarms: int
    num_random: int
    misses: int
    possible: float
    likely: float

    def is_answerable(self, index: SearchIndex, query: Matrix) -> bool:
        """Whether images of the index match a query (D), a unit row, well enough."""
        return bool(_at_rank(index, query[None], self.rank)[0] > self.minimum)


def fit_query_match(model: Embedder, index: SearchIndex, known: Matrix) -> QueryMatch | None:
    """Choose the rank and the minimum; None for an index with very few images.

    Args:
        model: the model that built the index.
        index: the images.
        known: embeddings (Q, D) of answerable queries; may be empty.
    """
    num_images = len(index) - index.num_unreadable
    if num_images < MIN_IMAGES:
        return None
    letters = random_texts(NUM_RANDOM)
    words = random_words(vocabulary_of(model), index.samples, NUM_RANDOM)
    nearest = _at_rank(index, model.embed_texts(words or letters), 1)
    possible, likely = np.quantile(nearest, [QUANTILE if words else LETTERS_QUANTILE, LIKELY_QUANTILE]).tolist()
    if len(known) < MIN_KNOWN:
        return QueryMatch(1, possible, 0, 0, NUM_RANDOM, int((nearest > possible).sum()), possible, likely)
    unknown = model.embed_texts(letters + words)
    ranks = [rank for rank in RANKS if rank == 1 or rank * IMAGES_PER_RANK <= num_images]
    choices = [(*_best_minimum(_at_rank(index, known[::2], r), _at_rank(index, unknown[::2], r)), r) for r in ranks]
    _, minimum, rank = max(choices, key=lambda choice: choice[0])
    checked, random_checked = _at_rank(index, known[1::2], rank), _at_rank(index, unknown[1::2], rank)
    false_alarms, misses = int((checked <= minimum).sum()), int((random_checked > minimum).sum())
    return QueryMatch(rank, minimum, len(checked), false_alarms, len(random_checked), misses, possible, likely)


def _best_minimum(known: Matrix, unknown: Matrix) -> tuple[float, float]:
    """The highest balanced accuracy, and the minimum similarity with which it is reached."""
    candidates = np.unique(np.concatenate([known, unknown]))
    passed = (known[:, None] > candidates).mean(axis=0)
    rejected = (unknown[:, None] <= candidates).mean(axis=0)
    best = int((passed + rejected).argmax())
    return float(passed[best] + rejected[best]) / 2, float(candidates[best])


def random_texts(n: int) -> list[str]:
    """``n`` texts of one to three words of random letters, always the same ones."""
    draw = random.Random(SEED)
    return [
        " ".join("".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 8))) for _ in range(draw.randint(1, 3)))
        for _ in range(n)
    ]


def random_words(vocabulary: Iterable[str], samples: Iterable[Sample], n: int) -> list[str]:
    """``n`` texts of two or three words that are in no caption, always the same ones; none for a small vocabulary."""
    in_captions = {
        word for text in {c.text for s in samples for c in s.captions} for word in re.findall(r"\w+", text.lower())
    }
    words = sorted(w for w in vocabulary if w.isascii() and w.isalpha() and len(w) >= MIN_LETTERS)
    absent = [word for word in words if word not in in_captions]
    draw = random.Random(SEED)
    return [" ".join(draw.sample(absent, draw.randint(2, 3))) for _ in range(n)] if len(absent) >= n else []


def _at_rank(index: SearchIndex, queries: Matrix, rank: int) -> Matrix:
    """The similarity (Q) of the image at a rank, for each query (Q, D)."""
    images = index.embeddings()
    readable = images[np.isfinite(images[:, 0])] if index.num_unreadable else images
    similarities: Matrix = np.partition(queries @ readable.T, -rank, axis=1)[:, -rank]
    return similarities
