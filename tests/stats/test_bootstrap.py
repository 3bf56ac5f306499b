"""The bootstrap against the resampling loop, scipy and simulation."""

import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as distributions

from clerestory.core.evidence import Interval
from clerestory.stats.bootstrap import cluster_bootstrap, cluster_counts


def mean(columns: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    return (weights @ columns[0]) / weights.sum(axis=1)


def ratio(columns: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    return (weights @ columns[0]) / (weights @ columns[1])


def resampled(statistic: Callable[[Sequence[np.ndarray]], float]) -> Callable[..., np.ndarray]:
    """The oracle: every draw copies its rows."""

    def weighted(columns: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        copies = [np.repeat(np.arange(len(row)), row.astype(int)) for row in weights]
        return np.array([statistic([column[rows] for column in columns]) for rows in copies])

    return weighted


def found(interval: Interval | str) -> Interval:
    assert isinstance(interval, Interval), interval
    return interval


def ends(interval: Interval | str) -> tuple[float, float]:
    return found(interval).low, found(interval).high


def test_interval_is_scipys_bca_up_to_the_draws() -> None:
    values = np.random.default_rng(1).exponential(size=120)
    ours = ends(cluster_bootstrap(mean, [values], np.arange(120), draws=20_000))
    theirs = distributions.bootstrap([values], np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_weights_and_copies_of_rows_say_the_same() -> None:
    rng = np.random.default_rng(2)
    top, bottom, groups = rng.random(60), rng.random(60) + 1, np.repeat(np.arange(20), 3)
    plain = resampled(lambda columns: float(columns[0].sum() / columns[1].sum()))
    one = cluster_bootstrap(ratio, [top, bottom], groups, draws=300)
    other = cluster_bootstrap(plain, [top, bottom], groups, draws=300)
    assert ends(one) == pytest.approx(ends(other), rel=1e-9)


def test_same_seed_same_interval_whatever_the_block() -> None:
    values, groups = np.random.default_rng(3).random(90), np.repeat(np.arange(30), 3)
    whole = cluster_bootstrap(mean, [values], groups)
    assert ends(cluster_bootstrap(mean, [values], groups, block_weights=1)) == pytest.approx(ends(whole), rel=1e-12)
    assert cluster_bootstrap(mean, [values], groups) == whole
    assert ends(cluster_bootstrap(mean, [values], groups, seed=1)) != ends(whole)
    assert found(whole).method == "cluster-bootstrap"


def test_the_stream_is_the_one_written_down() -> None:
    """These numbers must never change: evidence computed again must give the same interval."""
    assert next(cluster_counts(6, 2, 0, 2)).tolist() == STREAM


STREAM = [[2.0, 1.0, 0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 2.0, 2.0, 1.0]]


def test_every_draw_takes_as_many_clusters_as_there_are_and_none_is_favoured() -> None:
    counts = np.concatenate(list(cluster_counts(40, 5000, 7, 999)))
    assert counts.shape == (5000, 40)
    assert (counts.sum(axis=1) == 40).all()
    expected = np.full(40, 5000.0)
    # Multinomial counts: variance of each total is draws · C · (1/C)(1 - 1/C).
    score = ((counts.sum(axis=0) - expected) ** 2).sum() / (5000 * (1 - 1 / 40))
    assert 0.001 < distributions.chi2.sf(score, 40) < 0.999


def test_coverage_with_clusters() -> None:
    """Clusters of 5 with ICC 0.5: the interval of a ratio of means covers the truth about as often as it says."""
    rng, rounds, covered = np.random.default_rng(8), 250, 0
    groups = np.repeat(np.arange(80), 5)
    for _ in range(rounds):
        shared = np.repeat(rng.normal(size=80), 5)
        top, bottom = 2 + shared + rng.normal(size=400), 4 + rng.normal(size=400)
        low, high = ends(cluster_bootstrap(ratio, [top, bottom], groups, draws=300))
        covered += low <= 0.5 <= high
    assert covered / rounds == pytest.approx(0.94, abs=0.035)


def test_a_biased_statistic_is_not_pushed_up_twice() -> None:
    """The largest gap between groups grows when resampled; plain percentiles would leave the value behind."""
    rng = np.random.default_rng(9)
    values, kind = rng.random(300), np.arange(300) % 4
    member = (kind[None, :] == np.arange(4)[:, None]).astype(float)

    def gap(columns: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        means = (weights @ (member * columns[0]).T) / (weights @ member.T)
        return means.max(axis=1) - means.min(axis=1)

    point = float(gap([values], np.ones((1, 300)))[0])
    draws = np.concatenate([gap([values], w) for w in cluster_counts(300, 1000, 0, 100)])
    low, high = ends(cluster_bootstrap(gap, [values], np.arange(300)))
    assert low <= point <= high
    assert high < np.quantile(draws, 0.975)


@pytest.mark.parametrize(
    ("values", "groups", "words"),
    [
        (np.arange(5.0), np.zeros(5, dtype=int), "one cluster"),
        (np.ones(9), np.arange(9), "same value"),
        (np.array([np.nan, 1.0, 2.0]), np.arange(3), "undefined"),
    ],
)
def test_no_interval_has_a_reason(values: np.ndarray, groups: np.ndarray, words: str) -> None:
    reason = cluster_bootstrap(mean, [values], groups)
    assert isinstance(reason, str)
    assert words in reason


def test_small_calibration_errors_are_covered() -> None:
    """Noise only makes them larger, so plain percentiles of a true gap of 0.03 miss it most of the time."""
    rng, rounds, covered, plain = np.random.default_rng(12), 120, 0, 0

    def error(columns: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        confidence, right = columns
        place = np.minimum((confidence * 15).astype(int), 14)
        member = (place[:, None] == np.arange(15)) * (confidence - right)[:, None]
        return np.abs(weights @ member).sum(axis=1) / weights.sum(axis=1)

    for _ in range(rounds):
        confidence = rng.uniform(0.4, 0.95, 800)
        columns = [confidence, (rng.random(800) < confidence - 0.03).astype(float)]
        low, high = ends(cluster_bootstrap(error, columns, np.arange(800), draws=200, bounds=(0.0, 1.0)))
        assert low >= 0
        covered += low <= 0.03 <= high
        draws = np.concatenate([error(columns, weights) for weights in cluster_counts(800, 200, 0, 200)])
        plain += np.quantile(draws, 0.025) <= 0.03 <= np.quantile(draws, 0.975)
    assert covered / rounds >= 0.85
    assert plain / rounds < 0.5


def test_bounds_are_kept() -> None:
    values = np.r_[np.zeros(3), np.ones(60)]
    highest = resampled(lambda columns: float(np.mean(columns[0]) ** 0.01))
    low, high = ends(cluster_bootstrap(highest, [values], np.arange(63), bounds=(0, 1)))
    assert 0 <= low < high <= 1


def test_draws_that_miss_a_kind_are_counted() -> None:
    bottom = np.array([1.0] + [0.0] * 9)
    reason = cluster_bootstrap(ratio_or_nan, [np.ones(10), bottom], np.arange(10))
    assert isinstance(reason, str)
    assert "of 1000 draws" in reason


def ratio_or_nan(columns: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    below = weights @ columns[1]
    return np.divide(weights @ columns[0], below, out=np.full(len(below), np.nan), where=below > 0)


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 100"):
        cluster_bootstrap(mean, [np.arange(5.0)], np.arange(5), draws=10)


def test_memory_stays_bounded() -> None:
    """All weights at once would be 160 MB."""
    values = np.random.default_rng(10).random(20_000)
    tracemalloc.start()
    cluster_bootstrap(mean, [values], np.arange(20_000), block_weights=200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@given(st.integers(0, 1000), st.floats(0.5, 20), st.floats(-5, 5))
@settings(max_examples=25, deadline=None)
def test_interval_moves_with_the_values(seed: int, factor: float, offset: float) -> None:
    values, groups = np.random.default_rng(seed).random(40), np.repeat(np.arange(20), 2)
    low, high = ends(cluster_bootstrap(mean, [values], groups, draws=200))
    moved = ends(cluster_bootstrap(mean, [values * factor + offset], groups, draws=200))
    assert moved == pytest.approx((low * factor + offset, high * factor + offset), abs=1e-9)
