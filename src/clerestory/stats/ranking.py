"""Ranks of the correct answers among candidates, by counting instead of sorting.

Legend: Q queries, N candidates, C classes, D dimensions, B queries in a block, P relevant pairs in a block, R relevant
candidates of one query, K places.

The naive definition, which the tests use as an oracle::

    for q in range(Q):
        best = max(scores[q, j] for j in range(N) if relevant(q, j))
        ahead = sum(scores[q, j] > best for j in range(N))
        tied = sum(scores[q, j] == best for j in range(N) if not relevant(q, j))
        rank[q] = 1 + ahead + tied                                             # ties="pessimistic"
        rank[q] = 1 + ahead + tied / (1 + number of relevant j at the best)    # ties="mid"
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ties = Literal["pessimistic", "mid"]

BLOCK_SCORES = 1 << 23
ROUNDING = 1e-6
TOP = 5


class Classification(NamedTuple):
    """The classes with the highest scores of each image.

    Attributes:
        predicted: (Q,) the class of the highest score; -1 where an image has no score.
        top: (Q, k) the classes of the k highest scores, best first; -1 where there are none.
        scores: (Q,) the highest score; NaN where an image has none.
    """

    predicted: NDArray[np.int64]
    top: NDArray[np.int64]
    scores: NDArray[np.float32]


def best_ranks(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    candidate_labels: NDArray[np.int64],
    ties: Ties = "pessimistic",
    tolerance: float = ROUNDING,
    block_scores: int = BLOCK_SCORES,
) -> NDArray[np.float64]:
    """The rank (1 = first) of every query's best relevant candidate by dot product.

    A candidate is relevant to a query when their labels are equal; a query may have several. Allocates at most
    ``max(block_scores, N)`` scores at once (4 bytes each, and one more for the comparison).

    Args:
        queries: (Q, D).
        candidates: (N, D).
        query_labels: (Q,).
        candidate_labels: (N,).
        ties: an irrelevant candidate with the same score counts as ahead (``pessimistic``, so that constant scores get
            the worst rank), or the rank is its expectation under a random order of the ties (``mid``; with one
            relevant candidate the usual mid-rank).
        tolerance: scores that differ by no more than this are equal. Float32 products of identical rows may differ in
            their last bits with their place in the matrix; 0 compares the scores exactly.
        block_scores: scores to compute at a time.

    Returns:
        (Q,) float64; NaN for a query with no relevant candidate.
    """
    ranks = np.full(len(queries), np.nan)
    members = _Members(candidate_labels)
    for block, scores_BN in _blocks(queries, candidates, block_scores):
        row_P, place_P = members.of(query_labels[block])
        own_P = scores_BN[row_P, place_P]
        best_B = _highest(own_P, row_P, len(scores_BN))
        ranks[block] = _ranks(best_B, *_count(scores_BN, best_B, tolerance, ties), own_P, row_P, tolerance, ties)
    return ranks


def average_precision(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    candidate_labels: NDArray[np.int64],
    tolerance: float = ROUNDING,
    block_scores: int = BLOCK_SCORES,
) -> NDArray[np.float64]:
    """The average precision of every query over all its relevant candidates; their mean is mAP.

    The precision at a relevant candidate is the share of relevant ones among those up to it, with every irrelevant
    candidate of the same score (up to the tolerance) ahead of it. Without ties that is ``sklearn.metrics``'
    ``average_precision_score``. Arguments are those of ``best_ranks``.

    Returns:
        (Q,) float64; NaN for a query with no relevant candidate, or with a NaN among their scores.
    """
    found = np.full(len(queries), np.nan)
    members = _Members(candidate_labels)
    for block, scores_BN in _blocks(queries, candidates, block_scores):
        row_P, place_P = members.of(query_labels[block])
        starts = np.searchsorted(row_P, np.arange(len(scores_BN) + 1))
        for row, scores_N in enumerate(scores_BN):
            places = place_P[starts[row] : starts[row + 1]]
            if len(places):
                found[block.start + row] = _precision(scores_N, np.sort(scores_N[places]), tolerance)
    return found


def classify(
    images: NDArray[np.float32], classes: NDArray[np.float32], k: int = TOP, block_scores: int = BLOCK_SCORES
) -> Classification:
    """Zero-shot classification: the classes of the highest dot products; the earlier class in a tie.

    Args:
        images: (Q, D).
        classes: (C, D), one embedding for each class (of an ensemble of prompts: their normalised mean).
        k: number of classes for each image, at most C.
        block_scores: scores to compute at a time.
    """
    k = min(k, len(classes))
    top_QK = np.full((len(images), k), -1, dtype=np.int64)
    best_Q = np.full(len(images), np.nan, dtype=np.float32)
    for block, scores_BC in _blocks(images, classes, block_scores):
        np.nan_to_num(scores_BC, copy=False, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        rows = np.arange(len(scores_BC))
        for place in range(k):
            chosen = scores_BC.argmax(axis=1)
            scores_B = scores_BC[rows, chosen]
            usable = scores_B > -np.inf
            top_QK[block, place] = np.where(usable, chosen, -1)
            if place == 0:
                best_Q[block] = np.where(usable, scores_B, np.nan)
            scores_BC[rows, chosen] = -np.inf
    return Classification(top_QK[:, 0], top_QK, best_Q)


def chance_recall(candidates: int, relevant: Sequence[int] | NDArray[np.int64], k: int) -> float:
    """Recall@k of guessing: the mean probability over queries that k of N random candidates include a relevant one.

    For a query with r relevant candidates that is ``1 - C(N-r, k) / C(N, k)``; with one it is k/N.
    """
    if k >= candidates:
        return 1.0
    counts, times = np.unique(np.asarray(relevant), return_counts=True)
    total = 0.0
    for count, queries in zip(counts.tolist(), times.tolist(), strict=True):
        missed = 1.0
        for i in range(count):
            missed *= max(0, candidates - k - i) / (candidates - i)
        total += queries * (1.0 - missed)
    return total / math.fsum(times)


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The places of the k highest scores, best first; ties in the order of their places; no NaN."""
    usable = np.where(np.isnan(scores), -np.inf, scores)
    k = min(k, int((usable > -np.inf).sum()))
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    floor = np.partition(usable, len(usable) - k)[len(usable) - k]
    chosen = np.flatnonzero(usable >= floor)
    return chosen[np.argsort(-usable[chosen], kind="stable")][:k]


class _Members:
    """The candidates of a label, looked up for many queries at once."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        self.order = np.argsort(labels, kind="stable")
        self.sorted = labels[self.order]

    def of(self, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs (query, relevant candidate) of the queries with these labels, ordered by query."""
        low = np.searchsorted(self.sorted, labels)
        times = np.searchsorted(self.sorted, labels, side="right") - low
        rows = np.repeat(np.arange(len(labels)), times)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
        return rows, self.order[np.repeat(low, times) + within]


def _blocks(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], block_scores: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The scores of some queries at a time, in one buffer that the next block overwrites."""
    step = min(max(1, block_scores // max(1, len(candidates))), max(1, len(queries)))
    buffer = np.empty((step, len(candidates)), dtype=np.result_type(queries, candidates))
    turned = np.ascontiguousarray(candidates.T)
    for start in range(0, len(queries), step):
        block = slice(start, min(start + step, len(queries)))
        yield block, np.matmul(queries[block], turned, out=buffer[: block.stop - start])


def _highest(own_P: NDArray[np.float32], row_P: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
    """The highest score of the relevant pairs of each row; -inf where there are none."""
    best_B = np.full(rows, -np.inf, dtype=own_P.dtype)
    _raise(best_B, row_P, own_P)
    return best_B


def _raise(best: NDArray[np.float32], places: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
    """Raise the best scores to those at their places; a NaN stays and leaves its query without a rank."""
    with np.errstate(invalid="ignore"):
        np.maximum.at(best, places, scores)


def _count(
    scores_BN: NDArray[np.float32], best_B: NDArray[np.float32], tolerance: float, ties: Ties
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per row the scores at least as high as its best relevant one, and (for mid-ranks) the higher ones."""
    mask_BN = np.greater_equal(scores_BN, (best_B - tolerance)[:, None])
    level_B = _true(mask_BN)
    if ties == "pessimistic":
        return level_B, np.zeros_like(level_B)
    return level_B, _true(np.greater(scores_BN, (best_B + tolerance)[:, None], out=mask_BN))


def _true(mask_BN: NDArray[np.bool_]) -> NDArray[np.int64]:
    # Counting one contiguous row at a time is ten times as fast as a sum along the axis.
    return np.array([np.count_nonzero(row) for row in mask_BN], dtype=np.int64)


def _ranks(
    best_B: NDArray[np.float32],
    level_B: NDArray[np.int64],
    ahead_B: NDArray[np.int64],
    own_P: NDArray[np.float32],
    row_P: NDArray[np.int64],
    tolerance: float,
    ties: Ties,
) -> NDArray[np.float64]:
    right_B = np.bincount(row_P[own_P >= best_B[row_P] - tolerance], minlength=len(best_B))
    return _finish(best_B, level_B - right_B, ahead_B, right_B, ties)


def _finish(
    best: NDArray[np.float32],
    level: NDArray[np.int64],
    ahead: NDArray[np.int64],
    right: NDArray[np.int64],
    ties: Ties,
) -> NDArray[np.float64]:
    """Ranks from counts: irrelevant ones at least as high, irrelevant ones higher, and relevant ones at the best."""
    ranks = 1.0 + level if ties == "pessimistic" else 1.0 + ahead + (level - ahead) / (1 + right)
    return np.where(np.isfinite(best), ranks, np.nan)


def _precision(scores_N: NDArray[np.float32], right_R: NDArray[np.float32], tolerance: float) -> float:
    """Average precision of one query; ``right_R`` are its relevant candidates' scores in ascending order."""
    if not np.isfinite(right_R).all():
        return math.nan
    count, bound_R = len(right_R), right_R - tolerance
    # How many bounds each score reaches; from the end, how many scores reach each bound.
    reached = np.bincount(np.searchsorted(bound_R, scores_N[~np.isnan(scores_N)], side="right"), minlength=count + 1)
    all_R = np.cumsum(reached[::-1])[::-1][1:]
    wrong_R = all_R - (count - np.searchsorted(right_R, bound_R))
    place_R = np.arange(count, 0, -1)
    return math.fsum(place_R / (place_R + wrong_R)) / count
