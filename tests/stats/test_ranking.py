"""Counted ranks against sorted ones."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, top_k_accuracy_score

from clerestory.core.evidence import Recipe
from clerestory.stats.aggregate import aggregate
from clerestory.stats.ranking import (
    average_precision,
    best_ranks,
    chance_recall,
    classify,
    top,
)


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


def drawn(seed: int, q: int = 90, n: int = 210, d: int = 24) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    queries, labels = rng.normal(size=(q, d)).astype(np.float32), rng.integers(0, 40, n)
    asked = rng.integers(0, 40, q)
    candidates = rng.normal(size=(n, d)).astype(np.float32)
    return queries, candidates, asked, labels


def test_a_query_that_is_not_a_number_has_no_rank() -> None:
    queries, candidates, asked, labels = drawn(5)
    asked[3] = labels[0]
    queries[3] = np.nan
    assert np.isnan(best_ranks(queries, candidates, asked, labels)[3])
    assert np.isnan(best_ranks(candidates, queries, labels, asked)[0])
    assert np.isnan(average_precision(queries, candidates, asked, labels)[3])


def test_average_precision_equals_scikit_learns() -> None:
    queries, candidates, asked, labels = drawn(6)
    ours = average_precision(queries, candidates, asked, labels, tolerance=0, block_scores=1000)
    for place, query in enumerate(queries):
        right = labels == asked[place]
        if not right.any():
            assert np.isnan(ours[place])
        else:
            assert ours[place] == pytest.approx(average_precision_score(right, candidates @ query), abs=1e-12)


@given(problems())
@settings(max_examples=100)
def test_average_precision_puts_wrong_ones_of_equal_score_first(problem: tuple[np.ndarray, ...]) -> None:
    queries, candidates, asked, labels = problem
    ours = average_precision(*problem, tolerance=0)
    for place, query in enumerate(queries):
        scores, right = candidates @ query, labels == asked[place]
        if not right.any():
            continue
        order = np.lexsort((right, -scores))
        hits = right[order]
        precisions = np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)
        assert ours[place] == pytest.approx(precisions.mean(), abs=1e-12)


def test_average_precision_of_one_relevant_is_the_reciprocal_rank() -> None:
    queries, candidates, _, _ = drawn(7)
    asked, labels = np.arange(90), np.arange(210)
    ranks = best_ranks(queries, candidates, asked, labels)
    np.testing.assert_allclose(average_precision(queries, candidates, asked, labels), 1 / ranks, rtol=1e-12)


def test_classes_equal_a_stable_sort_and_scikit_learns_accuracy() -> None:
    rng = np.random.default_rng(8)
    images, classes = rng.normal(size=(300, 16)).astype(np.float32), rng.normal(size=(12, 16)).astype(np.float32)
    target = rng.integers(0, 12, 300)
    found = classify(images, classes, block_scores=500)
    scores = images @ classes.T
    np.testing.assert_array_equal(found.top, np.argsort(-scores, axis=1, kind="stable")[:, :5])
    np.testing.assert_array_equal(found.predicted, found.top[:, 0])
    np.testing.assert_allclose(found.scores, scores.max(axis=1), rtol=1e-5)
    within = (found.top == target[:, None]).any(axis=1).mean()
    assert within == top_k_accuracy_score(target, scores, k=5)
    rows = {"score": (found.predicted == target).astype(float), "class": target.astype(str).astype(object)}
    mean_class_recall = aggregate(rows, Recipe("mean_of_groups", "score", against="class")).value
    assert mean_class_recall == pytest.approx(balanced_accuracy_score(target, found.predicted), abs=1e-15)


def test_the_earlier_of_equal_classes_wins() -> None:
    found = classify(np.ones((2, 3), dtype=np.float32), np.ones((4, 3), dtype=np.float32), k=9)
    assert found.top.tolist() == [[0, 1, 2, 3]] * 2


def test_an_image_that_is_not_a_number_has_no_class() -> None:
    images = np.float32([[np.nan, 0], [1, 0]])
    found = classify(images, np.float32([[1, 0], [0, 1]]))
    assert found.top.tolist() == [[-1, -1], [0, 1]]
    assert np.isnan(found.scores[0])


def test_memory_of_average_precision_stays_bounded() -> None:
    """All scores at once would be 100 MB."""
    import tracemalloc

    rng = np.random.default_rng(9)
    rows = rng.normal(size=(5000, 4)).astype(np.float32)
    tracemalloc.start()
    best_ranks(rows, rows, np.arange(5000), np.arange(5000), block_scores=100_000)
    average_precision(rows[:500], rows, np.arange(500), np.arange(5000), block_scores=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000
