"""Simulated rollouts: the e-process of a guardrail over many requests, at a fraction of the cost of each factor.

An outcome that is not bad, and a bad one of the stable release, lower the e-value; only a bad one of the candidate can
raise it. The maximum, and the first time that a limit is reached, therefore lie at a bad outcome of the candidate, and
the e-value is computed there alone, exactly; ``log_e_path`` has it everywhere, and is the oracle.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from clerestory.stats.sequential import STAKES, log_factors


class GuardrailSimulator:
    """The e-process of one guardrail over requests whose weights are known beforehand.

    Args:
        weight: the probability of the candidate at each of N requests.
        tolerance: of the guardrail.
    """

    def __init__(self, weight: NDArray[np.float64], tolerance: float) -> None:
        def changes(bad: bool, candidate: bool) -> NDArray[np.float64]:
            weights, where = np.unique(weight, return_inverse=True)
            same = np.full(len(weights), True)
            factors: NDArray[np.float64] = log_factors(same & bad, same & candidate, weights, tolerance)[where]
            return factors

        good = changes(False, False)
        self._if_good = np.cumsum(good, axis=0)
        self._extra = {candidate: changes(True, candidate) - good for candidate in (True, False)}

    def rises(
        self, bad: NDArray[np.bool_], candidate: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The positions of the bad outcomes of the candidate, and the logarithm of the e-value after each.

        Args:
            bad: of at most N requests.
            candidate: whether the candidate answered, of the same requests.
        """
        events = np.flatnonzero(bad)
        by_candidate = candidate[events]
        extra = np.where(by_candidate[:, None], self._extra[True][events], self._extra[False][events])
        at = events[by_candidate]
        wealth = self._if_good[at] + np.cumsum(extra, axis=0)[by_candidate]
        highest = wealth.max(axis=1)
        log_e = highest + np.log(np.exp(wealth - highest[:, None]).sum(axis=1)) - math.log(len(STAKES))
        return at, log_e

    def first_reach(self, bad: NDArray[np.bool_], candidate: NDArray[np.bool_], log_limit: float) -> int | None:
        """How many requests it takes until the e-value reaches a limit; None if it never does."""
        at, log_e = self.rises(bad, candidate)
        over = log_e >= log_limit
        return int(at[np.argmax(over)]) + 1 if over.any() else None
