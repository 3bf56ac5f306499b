"""Ranks of the right answers among candidates, by counting instead of sorting.

Legend: Q queries, N candidates, D dimensions, B queries in a block.

The naive definition, which the tests use as the oracle::

    for q in range(Q):
        best = max(scores[q, j] for j in range(N) if relevant(q, j))
        ahead = sum(scores[q, j] > best for j in range(N))
        tied = sum(scores[q, j] == best for j in range(N) if not relevant(q, j))
        rank[q] = 1 + ahead + tied                                             # ties="pessimistic"
        rank[q] = 1 + ahead + tied / (1 + number of relevant j at the best)    # ties="mid"
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ties = Literal["pessimistic", "mid"]

BLOCK_SCORES = 1 << 20
ROUNDING = 1e-6


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

    A candidate is relevant to a query when their labels are equal; a query may have several. Never holds more than
    ``max(block_scores, N)`` scores at once.

    Args:
        queries: (Q, D).
        candidates: (N, D).
        query_labels: (Q,).
        candidate_labels: (N,).
        ties: a wrong candidate with the same score counts as ahead (``pessimistic``, so that equal scores never earn
            a model anything), or the rank is its expectation under a random order of the tied (``mid``; with one
            relevant candidate the usual mid-rank).
        tolerance: scores that differ by no more than this are the same. Float32 products of identical rows may
            differ in their last bits with their place in the matrix; 0 takes the scores literally.
        block_scores: how many scores to compute at a time.

    Returns:
        (Q,) float64; NaN for a query with no relevant candidate.
    """
    ranks = np.full(len(queries), np.nan)
    step = max(1, block_scores // max(1, len(candidates)))
    turned = np.ascontiguousarray(candidates.T)
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        scores_BN = queries[block] @ turned
        relevant_BN = query_labels[block, None] == candidate_labels[None, :]
        best_B1 = np.where(relevant_BN, scores_BN, -np.inf).max(axis=1, keepdims=True)
        ahead_B = (scores_BN > best_B1 + tolerance).sum(axis=1)
        level_BN = scores_BN >= best_B1 - tolerance
        tied_B = (level_BN & ~relevant_BN).sum(axis=1) - ahead_B
        if ties == "mid":
            tied_B = tied_B / (1 + (level_BN & relevant_BN).sum(axis=1))
        found_B = np.isfinite(best_B1[:, 0])
        ranks[block] = np.where(found_B, 1.0 + ahead_B + tied_B, np.nan)
    return ranks


def chance_recall(candidates: int, relevant: Sequence[int] | NDArray[np.int64], k: int) -> float:
    """Recall@k of guessing: the mean over queries of the chance that k of N random candidates hold a relevant one.

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
    """The places of the k highest scores, best first; equal scores in their order of place; NaN never."""
    usable = np.where(np.isnan(scores), -np.inf, scores)
    k = min(k, int((usable > -np.inf).sum()))
    if k <= 0:
        return np.empty(0, dtype=np.int64)
    floor = np.partition(usable, len(usable) - k)[len(usable) - k]
    chosen = np.flatnonzero(usable >= floor)
    return chosen[np.argsort(-usable[chosen], kind="stable")][:k]
