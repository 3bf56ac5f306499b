"""Group measures against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.errors import ConfigError, InputError
from clerestory.stats.fairness import (
    OddsCells,
    equalised_odds,
    group_means,
    largest_gap,
    max_skew,
    ndkl,
    split_groups,
    suppressed_sentence,
    worst_group,
)


def test_small_groups_are_left_out_and_named() -> None:
    groups = ["a"] * 12 + ["b"] * 11 + ["c"] * 2 + [""] * 30 + ["mixed"] * 30
    split = split_groups(groups)
    assert split.names == ("a", "b")
    assert split.suppressed == {"c": 2}
    assert (split.codes[-62:] == -1).all()
    assert suppressed_sentence(split.suppressed).startswith("c (2) has fewer than the 10 rows a group needs")
    assert suppressed_sentence({"c": 2, "d": 3}, 5).startswith("c (2), d (3) have fewer than the 5 rows")
    assert suppressed_sentence({}) == ""
    with pytest.raises(InputError, match=r"c \(2\) has fewer"):
        split_groups(["a"] * 12 + ["c"] * 2)
    with pytest.raises(InputError, match="only a is there"):
        split_groups(["a"] * 12)


def test_worst_and_gap_equal_loops() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.random(300), rng.choice(["x", "y", "z"], 300)
    means = {g: np.mean([v for v, h in zip(values, groups, strict=True) if h == g]) for g in "xyz"}
    name, value = worst_group(values, groups)
    assert (name, value) == (min(means, key=lambda g: means[g]), pytest.approx(min(means.values())))
    assert largest_gap(values, groups) == pytest.approx(max(means.values()) - min(means.values()))


def test_weights_count_as_copies() -> None:
    rng = np.random.default_rng(1)
    n = 200
    values, groups = rng.random(n), rng.choice(["x", "y"], n)
    told, true = rng.choice(["p", "q", "r"], n), rng.choice(["p", "q", "r"], n)
    weights = rng.integers(0, 4, (3, n)).astype(float)
    cells = OddsCells(told, true, split_groups(groups))
    gaps, means = cells.gaps(weights), group_means(values, split_groups(groups), weights)
    for r, row in enumerate(weights):
        copies = np.repeat(np.arange(n), row.astype(int))
        odds = equalised_odds(told[copies], true[copies], groups[copies])
        assert [float(gap[r]) for gap in gaps] == pytest.approx([odds.tpr_gap, odds.fpr_gap, odds.value])
        assert means[r].tolist() == pytest.approx([values[copies][groups[copies] == g].mean() for g in "xy"])


def naive_odds(told: np.ndarray, true: np.ndarray, groups: np.ndarray, n_min: int) -> tuple[float, float]:
    tpr_gap = fpr_gap = 0.0
    for label in set(true):
        tpr, fpr = [], []
        for group in set(groups):
            positive, negative = (groups == group) & (true == label), (groups == group) & (true != label)
            if positive.sum() >= n_min:
                tpr.append((told[positive] == label).mean())
            if negative.sum() >= n_min:
                fpr.append((told[negative] == label).mean())
        tpr_gap = max(tpr_gap, max(tpr) - min(tpr)) if len(tpr) > 1 else tpr_gap
        fpr_gap = max(fpr_gap, max(fpr) - min(fpr)) if len(fpr) > 1 else fpr_gap
    return tpr_gap, fpr_gap


@pytest.mark.parametrize("classes", [2, 5])
def test_equalised_odds_equal_loops(classes: int) -> None:
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 400).astype(str)
    told = np.where(rng.random(400) < 0.6, true, rng.integers(0, classes + 2, 400).astype(str))
    groups = rng.choice(["x", "y", "z"], 400, p=[0.6, 0.35, 0.05])
    found = equalised_odds(told, true, groups)
    tpr, fpr = naive_odds(told, true, groups, 10)
    assert (found.tpr_gap, found.fpr_gap) == pytest.approx((tpr, fpr))
    assert found.value == max(found.tpr_gap, found.fpr_gap)


def test_even_treatment_has_no_gap_and_too_few_rows_a_sentence() -> None:
    true, groups = ["yes", "no"] * 40, ["x"] * 40 + ["y"] * 40
    assert equalised_odds(true, true, groups) == (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="no class has 30 rows in two groups"):
        equalised_odds(true, true, groups, 30)


def naive_ndkl(ranked: list[int], desired: list[float]) -> float:
    """Geyik et al. 2019, equations 5 and 6, one prefix at a time."""
    total = norm = 0.0
    for i in range(1, len(ranked) + 1):
        shares = [ranked[:i].count(g) / i for g in range(len(desired))]
        kl = sum(s * math.log(s / d) for s, d in zip(shares, desired, strict=True) if s > 0)
        total += kl / math.log2(i + 1)
        norm += 1 / math.log2(i + 1)
    return total / norm


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_ranked_lists_equal_loops(ranked: list[int]) -> None:
    desired = [0.5, 0.3, 0.2]
    assert ndkl([ranked], desired)[0] == pytest.approx(naive_ndkl(ranked, desired), abs=1e-12)
    for k in (1, len(ranked)):
        skews = [math.log(s / d) for g, d in enumerate(desired) if (s := ranked[:k].count(g) / k) > 0]
        assert max_skew([ranked], desired, k)[0] == pytest.approx(max(skews), abs=1e-12)


def test_an_even_list_has_no_skew() -> None:
    assert max_skew([[0, 1, 0, 1], [0, 0, 1, 1]], [50, 50], 4).tolist() == [0.0, 0.0]
    assert max_skew([[0, 1, 0, 1], [0, 0, 1, 1]], [50, 50], 2) == pytest.approx([0.0, math.log(2)])
    one, other = ndkl([[0, 1, 0, 1], [0, 0, 1, 1]], [0.5, 0.5])
    assert 0 < one < other


def test_lists_that_cannot_be_judged_say_so() -> None:
    with pytest.raises(InputError, match="desired share is 0"):
        max_skew([[0, 1]], [1.0, 0.0], 1)
    with pytest.raises(ConfigError, match="no first 3"):
        max_skew([[0, 1]], [0.5, 0.5], 3)
    with pytest.raises(InputError, match="one group number per place"):
        ndkl([[0, 2]], [0.5, 0.5])
    with pytest.raises(InputError, match="desired shares"):
        ndkl([[0, 1]], [math.nan, 0.5])
