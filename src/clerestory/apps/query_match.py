"""Whether a text matches any image of an index at all, measured against texts that match none: random letters.

The nearest image of any query has some similarity, so a search always finds something. A query is called answerable if
its matches are closer than those of 95 % of the random texts; of queries with a known answer, the share that fails this
test is the measured rate of false alarms. It needs no captions, so it also works for images that have none.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.search import SearchIndex
from clerestory.models.protocols import Embedder

NUM_RANDOM = 200
MIN_IMAGES = 20  # with fewer, the nearest image says too little
IMAGES_PER_RANK = 1000
MAX_RANK = 10
QUANTILE = 0.95
SEED = 0

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """The similarity that a query needs to be answerable.

    Attributes:
        rank: the similarity of the image at this rank is compared; a single close image may be a coincidence.
        minimum: the similarity at this rank that 95 % of the random texts do not exceed.
        num_random: the number of random texts.
        num_known: the number of queries with a known answer.
        false_alarms: the number of them that are not answerable by this test.
    """

    rank: int
    minimum: float
    num_random: int
    num_known: int
    false_alarms: int

    def is_answerable(self, index: SearchIndex, query: Matrix) -> bool:
        """Whether images of the index match a query (D), a unit row, better than random letters."""
        return bool(_at_rank(index, query[None], self.rank)[0] > self.minimum)


def fit_query_match(model: Embedder, index: SearchIndex, known: Matrix) -> QueryMatch | None:
    """Measure the similarity of random texts; None for an index with very few images.

    Args:
        model: the model that built the index.
        index: the images.
        known: embeddings (Q, D) of queries with a known answer, to count false alarms; may be empty.
    """
    num_images = len(index) - index.num_unreadable
    if num_images < MIN_IMAGES:
        return None
    rank = min(MAX_RANK, max(1, num_images // IMAGES_PER_RANK))
    similarities = _at_rank(index, model.embed_texts(random_texts(NUM_RANDOM)), rank)
    minimum = float(np.quantile(similarities, QUANTILE))
    false_alarms = int((_at_rank(index, known, rank) <= minimum).sum()) if len(known) else 0
    return QueryMatch(rank, minimum, NUM_RANDOM, len(known), false_alarms)


def random_texts(n: int) -> list[str]:
    """``n`` texts of one to three words of random letters, always the same ones."""
    draw = random.Random(SEED)
    return [
        " ".join("".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 8))) for _ in range(draw.randint(1, 3)))
        for _ in range(n)
    ]


def _at_rank(index: SearchIndex, queries: Matrix, rank: int) -> Matrix:
    """The similarity (Q) of the image at a rank, for each query (Q, D)."""
    images = index.embeddings()
    readable = images[np.isfinite(images[:, 0])] if index.num_unreadable else images
    similarities: Matrix = np.partition(queries @ readable.T, -rank, axis=1)[:, -rank]
    return similarities
