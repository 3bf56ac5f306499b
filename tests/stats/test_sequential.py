"""The e-process of a rollout: valid whenever it is checked, and the same in one step as in many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.rollout_simulation import GuardrailSimulator
from tests.support.rollouts import log_e_path

from clerestory.core.errors import InputError
from clerestory.stats.sequential import RateExcess, event_weight

ALPHA = 0.01
ROLLOUTS, REQUESTS = 300, 2_000


def rates(kind: str) -> NDArray[np.float64]:
    """The rate of bad outcomes of both arms at each request."""
    t = np.arange(REQUESTS)
    return {
        "constant": np.full(REQUESTS, 0.05),
        "rising": 0.01 + 0.3 * t / REQUESTS,
        "alternating": np.where(t // 200 % 2, 0.002, 0.3),
    }[kind]


@pytest.mark.parametrize("kind", ["constant", "rising", "alternating"])
def test_identical_arms_are_stopped_at_most_as_often_as_stated(kind: str) -> None:
    rng = np.random.default_rng(7)
    weight = np.where(np.arange(REQUESTS) < REQUESTS // 2, 0.05, 0.25)
    stopped = 0
    for _ in range(ROLLOUTS):
        bad, candidate = rng.random(REQUESTS) < rates(kind), rng.random(REQUESTS) < weight
        stopped += bool(log_e_path(bad, candidate, weight, 0.0).max() >= -math.log(ALPHA))
    assert stopped <= 3 * ALPHA * ROLLOUTS  # 9: more than 8 of 300 have a probability of 0.4 % at a rate of 1 %


def test_subjects_who_return_count_once() -> None:
    """One subject makes half of all requests, all of which fail: their arm alone must not decide."""
    rng = np.random.default_rng(8)
    stopped = every_request = 0
    for _ in range(ROLLOUTS):
        subject = np.where(rng.random(REQUESTS) < 0.5, 0, rng.integers(1, 400, REQUESTS))
        arm, fails = rng.random(400) < 0.25, np.where(np.arange(400) == 0, True, rng.random(400) < 0.02)
        first = np.unique(subject, return_index=True)[1]
        first.sort()
        threshold = -math.log(ALPHA)
        counted, weight = subject[first], np.full(REQUESTS, 0.25)
        stopped += bool(log_e_path(fails[counted], arm[counted], weight[: len(counted)], 0.0).max() >= threshold)
        every_request += bool(log_e_path(fails[subject], arm[subject], weight, 0.0).max() >= threshold)
    assert stopped <= 3 * ALPHA * ROLLOUTS
    assert every_request > 0.2 * ROLLOUTS  # as often as this subject has the candidate


def test_a_worse_candidate_is_stopped() -> None:
    rng = np.random.default_rng(9)
    weight = np.full(10_000, 0.05)
    candidate = rng.random(10_000) < weight
    bad = rng.random(10_000) < np.where(candidate, 0.1, 0.01)
    path = log_e_path(bad, candidate, weight, 0.005)
    assert 0 < np.argmax(path >= math.log(5 / ALPHA)) < 6_000


def test_the_simulation_is_exact_where_the_evidence_can_rise() -> None:
    rng = np.random.default_rng(5)
    weight = np.where(np.arange(2_000) < 500, 0.05, 0.25)
    candidate = rng.random(2_000) < weight
    bad = rng.random(2_000) < np.where(candidate, 0.2, 0.05)
    path = log_e_path(bad, candidate, weight, 0.005)
    simulator = GuardrailSimulator(weight, 0.005)
    at, log_e = simulator.rises(bad, candidate)
    assert log_e == pytest.approx(path[at])
    assert max(0.0, log_e.max()) == pytest.approx(max(0.0, path.max()))
    assert simulator.first_reach(bad, candidate, 3.0) == int(np.argmax(path >= 3.0)) + 1
    assert simulator.first_reach(np.zeros(2_000, dtype=bool), candidate, 3.0) is None
    one_by_one = RateExcess(0.005)
    for each in range(200):
        one_by_one.add(bool(bad[each]), bool(candidate[each]), float(weight[each]))
    assert one_by_one.log_e == pytest.approx(path[199])


def test_one_by_one_gives_the_same_as_all_at_once() -> None:
    rng = np.random.default_rng(10)
    weight = rng.uniform(0.01, 0.9, 50)
    bad, candidate = rng.random(50) < 0.5, rng.random(50) < weight
    process = RateExcess(0.01)
    for each in zip(bad.tolist(), candidate.tolist(), weight.tolist(), strict=True):
        process.add(*each)
    assert process.log_e == pytest.approx(log_e_path(bad, candidate, weight, 0.01)[-1])


def test_each_factor_is_fair_and_positive() -> None:
    """The expectation of a factor is 1 where the candidate's rate is the stable rate + tolerance."""
    for weight, stable, tolerance in [(0.05, 0.2, 0.0), (0.5, 0.0, 0.1), (0.9, 0.5, 0.3)]:
        expected = np.zeros(8)
        for candidate, share in ((True, weight), (False, 1 - weight)):
            rate = stable + tolerance * candidate
            for bad, probability in ((True, rate), (False, 1 - rate)):
                process = RateExcess(tolerance)
                process.add(bad, candidate, weight)
                expected += share * probability * np.exp(process.log_stakes)
        assert expected == pytest.approx(np.ones(8))


def test_an_event_belongs_to_the_candidate_as_often_as_its_rate_says() -> None:
    assert event_weight(0.2, 1.0) == pytest.approx(0.2)
    assert event_weight(0.2, 2.0) == pytest.approx(0.4 / 1.2)


@pytest.mark.parametrize(("weight", "tolerance"), [(0.0, 0.1), (1.0, 0.1), (0.5, 1.0), (0.5, -0.1)])
def test_impossible_settings_are_refused(weight: float, tolerance: float) -> None:
    with pytest.raises(InputError):
        RateExcess(tolerance).add(True, True, weight)
