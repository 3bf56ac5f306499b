"""Pairs of similar embeddings: all of them, and nearly all by the inverted file."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clerestory.stages.audit import similar_embeddings
from clerestory.stages.audit.similar_embeddings import InvertedFile, SimilarPairs, similar_pairs


def unit(count: int, dims: int, seed: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).standard_normal((count, dims))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def as_set(pairs: SimilarPairs) -> set[tuple[int, int]]:
    return set(zip(pairs.queries_P.tolist(), pairs.vectors_P.tolist(), strict=True))


@pytest.mark.parametrize("tile", [(1, 1), (10, 7), (1024, 2500)])
def test_exactly_the_pairs_above_the_limit_are_returned(tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_embeddings, "TILE", tile)
    vectors, queries = unit(57, 8, 1), unit(23, 8, 2)
    products = (queries @ vectors.T).astype(np.float64)
    found = similar_pairs(vectors, queries, 0.5)
    assert as_set(found) == set(zip(*(side.tolist() for side in np.nonzero(products >= 0.5)), strict=True))
    assert np.allclose(found.similarities_P, products[found.queries_P, found.vectors_P], atol=1e-6)
    assert np.all(np.diff(found.queries_P) >= 0)


def test_the_inverted_file_finds_nearly_all_copies_and_nothing_else() -> None:
    vectors = unit(20_000, 64, 3)
    copies = vectors[:800] + 0.32 * unit(800, 64, 4)
    queries = np.concatenate([copies / np.linalg.norm(copies, axis=1, keepdims=True), unit(200, 64, 5)])
    exact, index = as_set(similar_pairs(vectors, queries, 0.9)), InvertedFile.of(vectors)
    assert len(exact) == 800
    found = as_set(index.pairs(queries, 0.9))
    assert found <= exact
    assert len(found) >= 0.97 * len(exact)
    assert as_set(index.pairs(queries, 0.9, num_probes=len(index.centroids_KD))) == exact
    assert as_set(InvertedFile.of(vectors, seed=0).pairs(queries, 0.9)) == found, "the same seed, the same result"


def test_nothing_and_equal_vectors() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert as_set(similar_pairs(empty, unit(3, 4, 6), 0.5)) == set()
    assert as_set(similar_pairs(unit(3, 4, 6), empty, 0.5)) == set()
    same = np.repeat(unit(1, 4, 7), 30, axis=0)
    assert len(as_set(InvertedFile.of(same).pairs(same[:2], 0.99))) == 60
