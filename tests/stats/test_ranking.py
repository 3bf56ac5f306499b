"""Counted ranks against sorted ones."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.stats.ranking import best_ranks, chance_recall, top


def naive(queries: np.ndarray, candidates: np.ndarray, asked: np.ndarray, given: np.ndarray, ties: str) -> np.ndarray:
    ranks = []
    for query, label in zip(queries, asked, strict=True):
        scores = candidates @ query
        right = given == label
        if not right.any():
            ranks.append(np.nan)
            continue
        best = scores[right].max()
        tied = (scores[~right] == best).sum()
        if ties == "mid":
            tied = tied / (1 + (scores[right] == best).sum())
        ranks.append(1 + (scores > best).sum() + tied)
    return np.array(ranks, dtype=float)


# Small whole numbers: float32 products are exact, and ties are frequent.
@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    seed, q, n = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 12)), draw(st.integers(1, 15))
    rng = np.random.default_rng(seed)
    kinds = draw(st.integers(1, 6))
    return (
        rng.integers(-2, 3, (q, 3)).astype(np.float32),
        rng.integers(-2, 3, (n, 3)).astype(np.float32),
        rng.integers(0, kinds, q),
        rng.integers(0, kinds, n),
    )


@given(problems(), st.sampled_from(["pessimistic", "mid"]), st.integers(1, 60))
@settings(max_examples=200)
def test_ranks_equal_the_naive_loop(problem: tuple[np.ndarray, ...], ties: str, block: int) -> None:
    ours = best_ranks(*problem, ties=ties, tolerance=0, block_scores=block)  # type: ignore[arg-type]  # ties is drawn
    np.testing.assert_array_equal(ours, naive(*problem, ties))


def test_ranks_equal_those_of_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    queries = rng.integers(-300, 301, (300, 32)).astype(np.float32)
    candidates = rng.integers(-300, 301, (700, 32)).astype(np.float32)
    own = rng.permutation(700)[:300]
    scores = queries @ candidates.T
    by_sort = []
    for i in range(300):
        order = np.lexsort((np.arange(700) == own[i], -scores[i]))
        by_sort.append(np.flatnonzero(order == own[i])[0] + 1)
    np.testing.assert_array_equal(best_ranks(queries, candidates, own, np.arange(700), tolerance=0), by_sort)


def test_one_embedding_for_everything_earns_nothing() -> None:
    same = np.tile(np.float32([0.6, 0.8]), (50, 1))
    labels = np.arange(50)
    assert (best_ranks(same, same, labels, labels) == 50).all()
    assert (best_ranks(same, same, labels, labels, ties="mid") == 25.5).all()


def test_a_difference_in_the_last_bits_is_a_tie() -> None:
    query = np.float32([[1.0, 0.0]])
    candidates = np.float32([[0.5, 0.1], [0.5 + 3e-8, 0.2], [0.5 - 3e-8, 0.3]])
    assert best_ranks(query, candidates, np.array([0]), np.arange(3)) == [3]


def test_memory_stays_bounded() -> None:
    """A block never holds more than it should; the matrix of all scores would be 400 MB."""
    import tracemalloc

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10_000, 4)).astype(np.float32)
    tracemalloc.start()
    best_ranks(rows[:1000], rows, np.arange(1000), np.arange(10_000), block_scores=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize(("n", "relevant", "k"), [(7, 1, 3), (7, 3, 2), (6, 6, 1), (5, 2, 4)])
def test_chance_is_that_of_drawing(n: int, relevant: int, k: int) -> None:
    draws = list(combinations(range(n), k))
    share = sum(any(place < relevant for place in draw) for draw in draws) / len(draws)
    assert chance_recall(n, [relevant], k) == pytest.approx(share, abs=1e-12)


def test_chance_of_several_queries_is_their_mean() -> None:
    mean = (2 * chance_recall(50, [1], 5) + chance_recall(50, [4], 5)) / 3
    assert chance_recall(50, [1, 4, 1], 5) == pytest.approx(mean)
    assert chance_recall(8, [1], 10) == 1.0


@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(float("nan"))), max_size=30), st.integers(0, 12))
def test_top_equals_a_stable_sort(scores: list[float], k: int) -> None:
    array = np.array(scores, dtype=np.float32)
    wanted = sorted((i for i, s in enumerate(scores) if s == s), key=lambda i: (-scores[i], i))[:k]
    assert top(array, k).tolist() == wanted
