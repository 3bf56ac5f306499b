"""Intervals against textbook formulas, scipy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions

from clerestory.core.evidence import Interval
from clerestory.stats.intervals import (
    cluster_variance,
    effective_size,
    mean_interval,
    quantile_interval,
    share_interval,
    wilson,
)


def found(interval: Interval | str) -> Interval:
    assert isinstance(interval, Interval), interval
    return interval


def test_mean_of_independent_rows_is_the_textbook_t_interval() -> None:
    values = np.random.default_rng(1).normal(3, 2, 40)
    interval = found(mean_interval(values, np.arange(40)))
    low, high = distributions.t.interval(0.95, 39, loc=values.mean(), scale=distributions.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert interval.method == "cluster-t"


def test_cluster_variance_equals_the_naive_double_loop() -> None:
    rng = np.random.default_rng(2)
    groups = np.sort(rng.integers(0, 7, 60))
    groups = np.unique(groups, return_inverse=True)[1]
    values = rng.normal(size=60) + groups
    mean, count = values.mean(), groups.max() + 1
    naive = sum((values[i] - mean) * (values[j] - mean) for i in range(60) for j in range(60) if groups[i] == groups[j])
    assert cluster_variance(values, groups) == pytest.approx(count / (count - 1) * naive / 60**2, rel=1e-10)


def test_copies_of_a_row_add_nothing() -> None:
    values = np.random.default_rng(3).normal(size=30)
    alone = found(mean_interval(values, np.arange(30)))
    copied = found(mean_interval(np.repeat(values, 8), np.repeat(np.arange(30), 8)))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.55])
def test_false_alarms_with_clusters_are_what_the_level_says(shift: float) -> None:
    """300 clusters of 5 rows with an intra-cluster correlation of 0.5; a test that ignores clusters errs 27 %."""
    rng, rounds, alarms, naive_alarms = np.random.default_rng(20), 3000, 0, 0
    groups = np.repeat(np.arange(300), 5)
    for _ in range(rounds):
        noise = math.sqrt(0.5) * np.repeat(rng.normal(size=300), 5) + math.sqrt(0.5) * rng.normal(size=1500)
        values = noise + shift
        interval = found(mean_interval(values, groups))
        alarms += not interval.low <= shift <= interval.high
        naive_alarms += abs(values.mean() - shift) > 1.96 * values.std() / math.sqrt(1500)
    assert 0.04 <= alarms / rounds <= 0.06
    assert naive_alarms / rounds > 0.2


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize(("clusters", "size"), [(15, 4), (60, 5), (300, 5)])
def test_share_intervals_cover(clusters: int, size: int, share: float) -> None:
    """Beta-binomial clusters with a correlation of 0.3: at least 93 % cover, also where hits are rare."""
    rng, rounds, covered = np.random.default_rng(4), 800, 0
    strength = (1 - 0.3) / 0.3
    groups = np.repeat(np.arange(clusters), size)
    for _ in range(rounds):
        level = np.repeat(rng.beta(share * strength, (1 - share) * strength, clusters), size)
        hits = (rng.random(clusters * size) < level).astype(float)
        interval = found(share_interval(hits, groups))
        covered += interval.low <= share <= interval.high
    assert covered / rounds >= 0.93


def test_wilson_on_independent_rows_is_scipys() -> None:
    ours = wilson(3 / 40, 40, float(distributions.norm.ppf(0.975)), 0.95)
    theirs = distributions.binomtest(3, 40).proportion_ci(0.95, "wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_all_or_nothing_still_has_a_true_interval(value: float) -> None:
    interval = found(share_interval(np.full(80, value), np.repeat(np.arange(10), 8)))
    assert interval.method == "cluster-wilson"
    assert interval.low <= value <= interval.high
    assert interval.high - interval.low > 0.2, "ten clusters cannot be that sure, whatever the number of rows"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60))
def test_a_share_interval_lies_in_0_to_1_and_holds_the_share(rows: list[tuple[bool, int]]) -> None:
    hits = np.array([float(hit) for hit, _ in rows])
    groups = np.unique([group for _, group in rows], return_inverse=True)[1].astype(np.int64)
    interval = share_interval(hits, groups)
    if groups.max() == 0:
        assert isinstance(interval, str)
        return
    interval = found(interval)
    assert 0 <= interval.low <= hits.mean() + 1e-12
    assert hits.mean() - 1e-12 <= interval.high <= 1
    assert effective_size(hits, groups) <= len(hits)


def test_exact_order_statistics() -> None:
    """The ends for the median of 20 rows are the 6th and the 15th (Conover, table A3: 95.9 %)."""
    interval = found(quantile_interval(np.arange(1.0, 21.0), np.arange(20), 0.5))
    assert (interval.low, interval.high, interval.method) == (6.0, 15.0, "order-statistics")


def test_the_95th_percentile_takes_72_rows() -> None:
    values = np.arange(1.0, 73.0)
    reason = quantile_interval(values[:71], np.arange(71), 0.95)
    assert isinstance(reason, str)
    assert "72" in reason
    assert isinstance(quantile_interval(values, np.arange(72), 0.95), Interval)


@pytest.mark.parametrize(("q", "clusters", "size"), [(0.5, 200, 1), (0.95, 100, 1), (0.5, 100, 6), (0.5, 30, 4)])
def test_quantile_intervals_cover(q: float, clusters: int, size: int) -> None:
    rng, rounds, covered = np.random.default_rng(5), 800, 0
    true = math.exp(distributions.norm.ppf(q))
    groups = np.repeat(np.arange(clusters), size)
    for _ in range(rounds):
        noise = math.sqrt(0.5) * np.repeat(rng.normal(size=clusters), size)
        values = np.exp(noise + math.sqrt(0.5) * rng.normal(size=clusters * size))
        interval = found(quantile_interval(values, groups, q))
        covered += interval.low <= true <= interval.high
    assert 0.93 <= covered / rounds <= 0.99


def test_a_median_of_nothing_but_ones_has_an_interval_of_its_own_making() -> None:
    interval = found(quantile_interval(np.ones(60), np.repeat(np.arange(20), 3), 0.5))
    assert (interval.low, interval.high) == (1.0, 1.0)


@pytest.mark.parametrize("groups", [np.zeros(9, dtype=np.int64)])
def test_one_cluster_gives_a_reason_instead_of_an_interval(groups: np.ndarray) -> None:
    values = np.arange(9.0)
    assert "one cluster" in str(mean_interval(values, groups))
    assert "one cluster" in str(share_interval(values % 2, groups))
    assert "one cluster" in str(quantile_interval(values, groups, 0.5))


def test_clusters_that_do_not_differ_give_a_reason() -> None:
    assert "have the same mean" in str(mean_interval(np.full(10, 0.3), np.arange(10)))
