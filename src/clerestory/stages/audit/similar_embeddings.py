"""Pairs of embeddings with a high cosine similarity: exactly, or by an inverted file.

Exactly, every query is multiplied with every vector, block by block. The inverted file (Sivic & Zisserman, 2003; Jégou
et al., "Product quantization for nearest neighbor search", 2011, §4) divides the vectors among centroids and compares a
query only with the lists of its nearest ones. Two vectors of a cosine near 1 have nearly the same nearest centroids, so
few lists suffice for copies; for neighbours at any distance they would not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
TILE = (1024, 2500)  # vectors and queries whose products are computed at a time
BLOCK_BYTES = 64 * 2**20  # of the products with all centroids
CENTROIDS_PER_ROOT = 1.0  # times the square root of the number of vectors
SAMPLES_PER_CENTROID, ITERATIONS = 40, 8  # of k-means
NUM_PROBES = 16
_EMPTY = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class SimilarPairs:
    """Pairs of similar vectors.

    Attributes:
        queries_P, vectors_P: positions of both, ordered by query, then by vector.
        similarities_P: their cosine similarity.
    """

    queries_P: NDArray[np.int64]
    vectors_P: NDArray[np.int64]
    similarities_P: Vectors


def similar_pairs(vectors_ND: Vectors, queries_MD: Vectors, min_similarity: float) -> SimilarPairs:
    """Every pair of a query and a vector with a cosine similarity of at least ``min_similarity``.

    Args:
        vectors_ND: unit vectors.
        queries_MD: unit vectors.
        min_similarity: above 0.
    """
    found = []
    parts = [(start, queries_MD[start : start + TILE[1]].T.copy()) for start in range(0, len(queries_MD), TILE[1])]
    # One tile of memory for all products, small enough for the cache: fresh memory costs more than they do.
    tile = np.empty(TILE, np.float32)
    for first in range(0, len(vectors_ND), TILE[0]):
        block = vectors_ND[first : first + TILE[0]]
        for start, queries_DM in parts:
            products = tile[: len(block), : queries_DM.shape[1]]
            np.matmul(block, queries_DM, out=products)
            # Few vectors are similar to any query, and looking for pairs takes longer than the products.
            rows = np.flatnonzero(products.max(axis=1) >= min_similarity)
            if len(rows):
                few = products[rows]
                row, query = np.nonzero(few >= min_similarity)
                found.append((query + start, rows[row] + first, few[row, query]))
    return _joined(found)


@dataclass(frozen=True)
class InvertedFile:
    """Unit vectors in lists, one for each centroid; made by ``InvertedFile.of``.

    Attributes:
        centroids_KD: unit vectors.
        order_N: positions of the vectors, list after list.
        starts_K: where each list begins in ``order_N``; one more at the end.
        vectors_ND: the vectors in that order.
    """

    centroids_KD: Vectors = field(repr=False)
    order_N: NDArray[np.int64] = field(repr=False)
    starts_K: NDArray[np.int64] = field(repr=False)
    vectors_ND: Vectors = field(repr=False)

    @classmethod
    def of(cls, vectors_ND: Vectors, seed: int = 0) -> InvertedFile:
        """Divide vectors among centroids that spherical k-means finds on a sample of them."""
        count = max(1, round(CENTROIDS_PER_ROOT * len(vectors_ND) ** 0.5))
        centroids = _centroids(vectors_ND, count, np.random.default_rng(seed))
        nearest = _nearest(vectors_ND, centroids, 1)[:, 0]
        order = np.argsort(nearest, kind="stable")
        starts = np.searchsorted(nearest[order], np.arange(len(centroids) + 1))
        return cls(centroids, order, starts, np.ascontiguousarray(vectors_ND[order]))

    def pairs(self, queries_MD: Vectors, min_similarity: float, num_probes: int = NUM_PROBES) -> SimilarPairs:
        """Nearly every pair of ``similar_pairs``: those whose vector is in one of the query's nearest lists.

        Args:
            queries_MD: unit vectors.
            min_similarity: above 0.
            num_probes: lists that each query is compared with.
        """
        probes = _nearest(queries_MD, self.centroids_KD, min(num_probes, len(self.centroids_KD)))
        flat = probes.ravel()
        by_list = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[by_list], np.arange(len(self.centroids_KD) + 1))
        found = []
        for number in range(len(self.centroids_KD)):
            first, last = self.starts_K[number : number + 2]
            asking = by_list[bounds[number] : bounds[number + 1]] // probes.shape[1]
            if len(asking) and last > first:
                products = self.vectors_ND[first:last] @ queries_MD[asking].T
                vector, query = np.nonzero(products >= min_similarity)
                found.append((asking[query], self.order_N[first + vector], products[vector, query]))
        return _joined(found)


def _joined(found: list[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]]) -> SimilarPairs:
    if not found:
        return SimilarPairs(_EMPTY, _EMPTY, np.zeros(0, np.float32))
    queries, vectors, similarities = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((vectors, queries))
    return SimilarPairs(queries[order], vectors[order], similarities[order])


def _centroids(vectors_ND: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Spherical k-means (Dhillon & Modha, 2001) on a sample; an empty cluster begins again at a random vector."""
    size = min(len(vectors_ND), count * SAMPLES_PER_CENTROID)
    sample = vectors_ND[rng.choice(len(vectors_ND), size, replace=False)]
    centroids = sample[:count].copy()
    for _ in range(ITERATIONS):
        nearest = _nearest(sample, centroids, 1)[:, 0]
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        empty = lengths[:, 0] == 0
        sums[empty] = sample[rng.choice(size, int(empty.sum()))]
        lengths[empty] = 1.0
        centroids = sums / lengths
    return centroids


def _nearest(vectors_ND: Vectors, centroids_KD: Vectors, count: int) -> NDArray[np.int64]:
    """(N, count): the numbers of the nearest centroids, in any order."""
    rows = max(1, BLOCK_BYTES // (4 * len(centroids_KD)))
    parts = []
    for start in range(0, len(vectors_ND), rows):
        products = vectors_ND[start : start + rows] @ centroids_KD.T
        if count == 1:
            parts.append(products.argmax(axis=1)[:, None])
        else:
            parts.append(np.argpartition(-products, count - 1, axis=1)[:, :count])
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros((0, count), np.int64)
