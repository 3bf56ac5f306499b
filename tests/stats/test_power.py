"""Detectable effects and sample sizes against statsmodels and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower

from clerestory.stats.paired import paired_difference
from clerestory.stats.power import additional_samples, effect_in_errors, minimum_detectable_effect


def scores(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=n)


def test_effect_is_the_formula_on_the_real_pair() -> None:
    a, b = scores(1, 400)
    difference = paired_difference(a, b, np.arange(400))
    assert effect_in_errors() == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert minimum_detectable_effect(difference) == pytest.approx(
        effect_in_errors() * np.std(a - b, ddof=1) / 20, rel=1e-9
    )


@pytest.mark.parametrize(("alpha", "sides"), [(0.05, 2), (0.01, 2), (0.01, 1)])
def test_sample_size_is_that_of_statsmodels(alpha: float, sides: int) -> None:
    a, b = scores(2, 100)
    difference = paired_difference(a, b, np.arange(100))
    more = additional_samples(difference, 0.1, alpha, 0.8, sides)  # type: ignore[arg-type]  # sides is 1 or 2
    assert more is not None
    wanted = TTestPower().solve_power(
        0.1 / difference.sd, alpha=alpha, power=0.8, alternative="two-sided" if sides == 2 else "larger"
    )
    assert more.rows + 100 == pytest.approx(wanted, rel=0.01)
    assert more.clusters == more.rows


def test_correlated_rows_need_more() -> None:
    a, b = scores(3, 100)
    alone = paired_difference(a, b, np.arange(100))
    copied = paired_difference(np.repeat(a, 8), np.repeat(b, 8), np.repeat(np.arange(100), 8))
    assert minimum_detectable_effect(copied) == pytest.approx(minimum_detectable_effect(alone), rel=1e-9)
    ours, theirs = additional_samples(copied, 0.05), additional_samples(alone, 0.05)
    assert ours is not None
    assert theirs is not None
    assert ours.rows == pytest.approx(8 * theirs.rows, abs=8)
    assert ours.clusters == pytest.approx(theirs.clusters, abs=1)


def test_the_effect_is_seen_as_often_as_promised() -> None:
    rng, n, rounds, seen = np.random.default_rng(4), 300, 1500, 0
    effect = effect_in_errors() * math.sqrt(2) / math.sqrt(n)
    for _ in range(rounds):
        found = paired_difference(rng.normal(effect, 1, n), rng.normal(0, 1, n), np.arange(n))
        assert found.p is not None
        seen += found.p < 0.05
    assert seen / rounds == pytest.approx(0.8, abs=0.035)


@given(st.floats(0.001, 2), st.floats(0.001, 2))
@settings(max_examples=50)
def test_smaller_effects_never_need_fewer(one: float, other: float) -> None:
    a, b = scores(5, 50)
    difference = paired_difference(a, b, np.arange(50))
    small, large = (additional_samples(difference, effect) for effect in sorted((one, other)))
    assert small is not None
    assert large is not None
    assert small.rows >= large.rows


def test_unknown_spread_needs_an_unknown_number() -> None:
    nothing = paired_difference(np.ones(4), np.ones(4), np.zeros(4, dtype=int))
    assert minimum_detectable_effect(nothing) is None
    assert additional_samples(nothing, 0.1) is None
    with pytest.raises(ValueError, match="above 0"):
        additional_samples(nothing, 0.0)
