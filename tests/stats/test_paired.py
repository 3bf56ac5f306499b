"""Paired differences against statsmodels, scipy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as distributions
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from clerestory.core.errors import InputError
from clerestory.core.evidence import Interval
from clerestory.stats.paired import (
    Difference,
    NonInferiority,
    holm,
    match_rows,
    mcnemar,
    non_inferiority,
    paired_difference,
)


def no_worse(a: np.ndarray, b: np.ndarray, groups: np.ndarray, margin: float, alpha: float = 0.05) -> NonInferiority:
    return non_inferiority(paired_difference(a, b, groups), margin, alpha)


def interval_of(difference: Difference) -> Interval:
    assert difference.interval is not None, difference.no_interval
    return difference.interval


def pairs(seed: int, n: int = 60, binary: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    if binary:
        a, b = (a > 0).astype(float), (b > 0.3).astype(float)
    return a, b, rng.integers(0, 25, n)


def test_difference_is_the_cluster_robust_regression_on_a_constant() -> None:
    a, b, groups = pairs(1)
    ours = paired_difference(a, b, groups)
    theirs = OLS(a - b, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    assert ours.value == pytest.approx(theirs.params[0], rel=1e-12)
    assert ours.error == pytest.approx(theirs.bse[0], rel=1e-12)
    assert ours.p == pytest.approx(theirs.pvalues[0], rel=1e-9)
    interval = interval_of(ours)
    assert (interval.low, interval.high) == pytest.approx(theirs.conf_int()[0], rel=1e-9)
    assert interval.method == "paired-cluster-t"
    assert ours.clusters == len(np.unique(groups))


def test_independent_rows_give_the_paired_t_test() -> None:
    a, b, _ = pairs(2)
    assert paired_difference(a, b, np.arange(60)).p == pytest.approx(distributions.ttest_rel(a, b).pvalue, rel=1e-9)


def test_right_or_wrong_is_bonett_and_prices_interval() -> None:
    """Their formula, with one added to both kinds of disagreement (2012, equation 2), up to t for z and n/(n-1)."""
    a, b = np.repeat([1.0, 0.0], [420, 80]), np.repeat([1.0, 0.0, 1.0, 0.0], [400, 20, 6, 74])
    interval, n = interval_of(paired_difference(a, b, np.arange(500))), 500
    first, second = 21 / (n + 2), 7 / (n + 2)
    half = 1.959964 * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    assert (interval.low, interval.high) == pytest.approx((first - second - half, first - second + half), rel=0.02)
    assert interval.method == "paired-bonett-price"


@pytest.mark.parametrize("lost", range(3, 12))
def test_p_of_few_disagreements_follows_the_exact_test(lost: int) -> None:
    a, b = np.zeros(2000), np.zeros(2000)
    b[:lost] = 1
    p, exact = paired_difference(a, b, np.arange(2000)).p, mcnemar(a, b).p
    assert p is not None
    assert 0.6 < p / exact < 2.6


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_swapping_the_two_flips_every_sign_exactly(seed: int, binary: bool) -> None:
    a, b, groups = pairs(seed, binary=binary)
    one, other = paired_difference(a, b, groups), paired_difference(b, a, groups)
    assert (one.value, one.centre) == (-other.value, -other.centre)
    assert (one.p, one.sd) == (other.p, other.sd)
    assert (interval_of(one).low, interval_of(one).high) == (-interval_of(other).high, -interval_of(other).low)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_names_and_the_order_of_clusters_say_nothing(seed: int, binary: bool) -> None:
    a, b, groups = pairs(seed, binary=binary)
    order = np.random.default_rng(seed + 1).permutation(60)
    one, other = paired_difference(a, b, groups), paired_difference(a[order], b[order], 7 * groups[order] - 3)
    assert one.value == other.value
    assert one.p == pytest.approx(other.p, rel=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_interval_excludes_nought_exactly_when_p_is_small(seed: int) -> None:
    a, b, groups = pairs(seed, 40, binary=True)
    found = paired_difference(a, b, groups)
    interval = interval_of(found)
    assert found.p is not None
    assert (interval.low > 0 or interval.high < 0) == (found.p < 0.05)


def test_copies_of_a_row_add_nothing() -> None:
    a, b, _ = pairs(3)
    alone, copied = (
        paired_difference(a, b, np.arange(60)),
        paired_difference(*np.repeat([a, b], 6, axis=1), np.repeat(np.arange(60), 6)),
    )
    assert copied.p == pytest.approx(alone.p, rel=1e-9)
    assert copied.error == pytest.approx(alone.error, rel=1e-9)


def test_equal_answers_bound_the_difference_by_their_number() -> None:
    few, many = (paired_difference(np.ones(n), np.ones(n), np.arange(n)) for n in (20, 2000))
    assert (few.value, few.p, many.p) == (0, 1, 1)
    assert interval_of(few).high > 0.1
    # The rule of three: at most 3.7 of 2,000 can be missed so thoroughly.
    assert interval_of(many).high == pytest.approx(2.77 / 2002, rel=0.02)
    assert interval_of(many).low == -interval_of(many).high


def test_a_difference_of_shares_stays_in_range() -> None:
    interval = interval_of(paired_difference(np.array([1.0, 1.0]), np.array([0.0, 1.0]), np.arange(2)))
    assert (interval.low, interval.high) == (-1, 1)


def test_equal_scores_of_other_kinds() -> None:
    ranks = np.arange(1.0, 301.0)
    assert interval_of(paired_difference(ranks, ranks, np.arange(300))).high == pytest.approx(
        299 * 2.78 / 302, rel=0.02
    )
    same = np.full(30, 7.0)
    assert "same in all clusters" in paired_difference(same, same, np.arange(30)).no_interval
    assert "same in all clusters" in paired_difference(same, same - 2, np.arange(30)).no_interval


def test_one_cluster_tells_nothing_and_few_are_named() -> None:
    a, b, _ = pairs(4)
    alone = paired_difference(a, b, np.zeros(60, dtype=int))
    assert (alone.interval, alone.p) == (None, None)
    assert "one cluster" in alone.no_interval
    assert "only 5 clusters" in paired_difference(a, b, np.arange(60) % 5).caution


def test_unscored_rows_are_left_out_and_counted() -> None:
    a, b, groups = pairs(5)
    holes = a.copy()
    holes[:7] = np.nan
    found = paired_difference(holes, b, groups)
    assert (found.n, found.dropped) == (53, 7)
    assert found.value == pytest.approx((a[7:] - b[7:]).mean())
    assert found._replace(dropped=0) == paired_difference(a[7:], b[7:], groups[7:])


def test_nothing_to_pair_is_said() -> None:
    with pytest.raises(InputError, match="no sample is scored"):
        paired_difference(np.array([np.nan]), np.array([1.0]), np.arange(1))
    with pytest.raises(InputError, match="cannot be paired"):
        paired_difference(np.ones(2), np.ones(3), np.arange(3))


def test_rows_are_matched_by_their_keys() -> None:
    ours, theirs = [("b", "clean"), ("a", "clean"), ("a", "blind")], [("a", "clean"), ("c", "clean"), ("b", "clean")]
    left, right = match_rows(ours, theirs)
    assert (left.tolist(), right.tolist()) == ([0, 1], [2, 0])
    with pytest.raises(InputError, match="'x' occurs twice"):
        match_rows(["x", "y", "x"], ["x"])
    with pytest.raises(InputError, match="no sample in common"):
        match_rows(["x"], ["y"])


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=80)
def test_mcnemar_equals_statsmodels(only_a: int, only_b: int) -> None:
    a = np.repeat([1.0, 0.0, 1.0, 0.0], [only_a, only_b, 9, 5])
    b = np.repeat([0.0, 1.0, 1.0, 0.0], [only_a, only_b, 9, 5])
    found = mcnemar(a, b)
    assert found[:2] == (only_a, only_b)
    assert found.p == pytest.approx(their_mcnemar([[9, only_a], [only_b, 5]], exact=True).pvalue, rel=1e-9)
    assert mcnemar(b, a).p == found.p
    if only_a + only_b:
        below = distributions.binomtest(only_a, only_a + only_b, alternative="less").pvalue
        assert found.p_lower == pytest.approx(below, rel=1e-9)


def test_mid_p_is_the_textbooks() -> None:
    """Fagerland et al. 2013: exact p minus the probability of what was seen."""
    a, b = np.repeat([1.0, 0.0], [1, 7]), np.repeat([0.0, 1.0], [1, 7])
    seen = distributions.binom.pmf(1, 8, 0.5)
    assert mcnemar(a, b, mid=True).p == pytest.approx(mcnemar(a, b).p - seen, rel=1e-12)
    assert mcnemar(a, b, mid=True).p_lower == pytest.approx(distributions.binom.cdf(1, 8, 0.5) - seen / 2, rel=1e-12)
    many = np.repeat([1.0, 0.0], 5000)
    assert 0 < mcnemar(many, 1 - many, mid=True).p <= 1


def test_mcnemar_takes_right_or_wrong_only() -> None:
    with pytest.raises(InputError, match="binary scores"):
        mcnemar(np.array([0.5]), np.array([1.0]))
    assert mcnemar(np.array([np.nan, 1.0]), np.array([1.0, 0.0]))[:2] == (1, 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_holm_equals_statsmodels(pvalues: list[float]) -> None:
    adjusted = holm(pvalues)
    np.testing.assert_allclose(adjusted, multipletests(pvalues, method="holm")[1], rtol=1e-12)
    assert all(after >= before for after, before in zip(adjusted, pvalues, strict=True))


def test_holm_of_nothing() -> None:
    assert holm([]) == []


def test_no_worse_is_a_one_sided_t_test() -> None:
    a, b, _ = pairs(6)
    found = no_worse(a, b, np.arange(60), margin=0.5, alpha=0.05)
    theirs = distributions.ttest_1samp(a - b, -0.5, alternative="greater")
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.low == pytest.approx(theirs.confidence_interval(0.95).low, rel=1e-9)
    assert found.holds == (theirs.pvalue < 0.05)


@given(st.integers(0, 1000), st.floats(0.01, 1), st.floats(0.01, 1))
@settings(max_examples=30, deadline=None)
def test_a_wider_margin_never_hurts(seed: int, one: float, other: float) -> None:
    a, b, groups = pairs(seed)
    narrow, wide = (no_worse(a, b, groups, margin) for margin in sorted((one, other)))
    assert narrow.p is not None
    assert wide.p is not None
    assert wide.p <= narrow.p
    assert wide.holds >= narrow.holds


def test_no_worse_without_a_spread_is_not_shown() -> None:
    assert no_worse(np.ones(3), np.ones(3), np.zeros(3, dtype=int), 0.1) == (False, None, None)


@pytest.mark.parametrize("binary", [False, True])
def test_false_alarms_with_clusters_are_what_the_level_says(binary: bool) -> None:
    """300 clusters of 5 with an intra-cluster correlation of 0.5; ignoring clusters errs 27 % of the time."""
    rng, rounds, alarms = np.random.default_rng(30), 1500, 0
    groups = np.repeat(np.arange(300), 5)
    for _ in range(rounds):
        noise = math.sqrt(0.5) * (np.repeat(rng.normal(size=300), 5) + rng.normal(size=1500))
        other = rng.normal(size=1500)
        a, b = (noise + other, other) if not binary else ((noise + other > 0).astype(float), (other > 0).astype(float))
        p = paired_difference(a, b, groups).p
        assert p is not None
        alarms += p < 0.05
    assert alarms / rounds == pytest.approx(0.05, abs=0.0125)
