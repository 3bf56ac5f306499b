"""A test that may be looked at after each request: is the candidate's rate of bad outcomes above the stable one's?

*Bet.* Request t goes to the candidate with a known probability w_t, else to the stable release, and has a bad outcome
(y_t = 1) or not. The inverse-propensity-weighted difference

    d_t = y_t / w_t            if the candidate answered,
    d_t = −y_t / (1 − w_t)     if the stable release did

has, given everything before request t, the expectation p_candidate,t − p_stable,t, whatever both rates are at that
time. Under the null hypothesis "at each time the candidate's rate is at most the stable rate + ε" therefore
E[d_t − ε | past] ≤ 0, so each factor 1 + λ_t (d_t − ε) has a conditional expectation of at most 1 for λ_t ≥ 0, and is
positive while λ_t < 1 / (1 / (1 − w_t) + ε). The product of the factors is a non-negative supermartingale that begins
at 1, and so is the mean of the products for several λ. By Ville's inequality it ever reaches 1/α with a probability of
at most α: a look at each request costs nothing, and neither rates that drift nor weights that change can break it.

*Conditions.* The arm must be random given the past. A request of a subject who was assigned before is not (the split is
sticky), so only the first request of each subject counts: the unit of the assignment is the unit of the analysis.

*Several servers.* Each has a supermartingale over its own requests, with subjects that no other one counts. Given the
past of all, each new factor has an expectation of at most 1, so the product over the servers is one as well.

*Several guardrails.* Each has the level α / (number of guardrails): Bonferroni's inequality.

Sources: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024 (the bet);
Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 2023 (e-processes,
mixtures, products); Waudby-Smith et al., "Anytime-valid off-policy inference for contextual bandits", ACM/IMS JDS 2024
(the weights).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import InputError

STAKES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95)  # shares of the largest λ; the mixture costs at most log 8


@dataclass(slots=True)
class RateExcess:
    """The e-process for "the rate of the candidate is at most that of the stable release + ``tolerance``".

    Args:
        tolerance: ε, from 0 to below 1.

    Attributes:
        log_stakes: the logarithm of the wealth of each stake.
    """

    tolerance: float
    log_stakes: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(STAKES)))

    def add(self, bad: bool, candidate: bool, weight: float) -> None:
        """Take in the outcome of one request.

        Args:
            bad: whether it is what the guardrail counts.
            candidate: whether the candidate answered.
            weight: the probability with which the candidate was chosen, above 0 and below 1.
        """
        self.add_all(np.array([bad]), np.array([candidate]), np.array([weight]))

    def add_all(self, bad: NDArray[np.bool_], candidate: NDArray[np.bool_], weight: NDArray[np.float64]) -> None:
        """Take in the outcomes of several requests, in their order."""
        self.log_stakes += log_factors(bad, candidate, weight, self.tolerance).sum(axis=0)

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value."""
        return float(np.logaddexp.reduce(self.log_stakes) - math.log(len(STAKES)))


def log_factors(
    bad: NDArray[np.bool_], candidate: NDArray[np.bool_], weight: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """The logarithms of the factors (N, stakes) by which the wealth of each stake changes with N requests.

    Raises:
        InputError: a weight is not between 0 and 1, or the tolerance is not from 0 to below 1.
    """
    if not 0 <= tolerance < 1 or not ((weight > 0) & (weight < 1)).all():
        raise InputError("a guardrail needs weights between 0 and 1 and a tolerance from 0 to below 1", "change it")
    difference = np.where(candidate, 1 / weight, -1 / (1 - weight)) * bad - tolerance
    largest = 1 / (1 / (1 - weight) + tolerance)
    factors: NDArray[np.float64] = np.log1p(np.outer(difference * largest, STAKES))
    return factors


def event_weight(weight: float, ratio: float) -> float:
    """The probability that an event is the candidate's, if its rate is ``ratio`` times that of the stable release.

    For events that are seen only where they happen, such as negative feedback: ``RateExcess(0)`` of events with this
    weight tests "the candidate's rate is at most ``ratio`` times the stable one's".
    """
    return weight * ratio / (weight * ratio + 1 - weight)
