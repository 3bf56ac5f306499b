"""Group measures against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.oracles import odds_gaps

from clerestory.core.errors import ConfigError, InputError
from clerestory.core.evidence import Recipe
from clerestory.stats.aggregate import aggregate
from clerestory.stats.fairness import (
    OddsCells,
    group_means,
    max_skew,
    ndkl,
    split_groups,
    suppressed_sentence,
)


def value_of(statistic: str, values: np.ndarray, groups: np.ndarray, n_min: int = 10, **more: np.ndarray) -> float:
    """A group metric as an evaluation computes it."""
    rows = {"score": values, "group": groups.astype(object), **{n: c.astype(object) for n, c in more.items()}}
    return aggregate(rows, Recipe(statistic, "score", parameter=float(n_min), against="group")).value


def gaps_of(told: np.ndarray, true: np.ndarray, groups: np.ndarray, n_min: int = 10) -> tuple[float, float]:
    cells = OddsCells(told, true, split_groups(groups, n_min), n_min)
    tpr, fpr, _ = cells.widest(*cells.rates(np.ones((1, len(told)))))
    return float(tpr[0]), float(fpr[0])


def test_small_groups_are_left_out_and_named() -> None:
    groups = ["a"] * 12 + ["b"] * 11 + ["c"] * 2 + [""] * 30 + ["mixed"] * 30
    split = split_groups(groups)
    assert split.names == ("a", "b")
    assert split.suppressed == {"c": 2}
    assert (split.codes[-62:] == -1).all()
    assert suppressed_sentence(split.suppressed).startswith("c (2) has fewer than 10 rows")
    assert suppressed_sentence({"c": 2, "d": 3}, 5).startswith("c (2), d (3) have fewer than 5 rows")
    assert suppressed_sentence({}) == ""
    with pytest.raises(InputError, match=r"c \(2\) has fewer"):
        split_groups(["a"] * 12 + ["c"] * 2)
    with pytest.raises(InputError, match="the only group is a"):
        split_groups(["a"] * 12)


def test_worst_and_gap_equal_loops() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.random(300), rng.choice(["x", "y", "z"], 300)
    means = {g: np.mean([v for v, h in zip(values, groups, strict=True) if h == g]) for g in "xyz"}
    assert value_of("worst_group", values, groups) == pytest.approx(min(means.values()))
    assert value_of("largest_gap", values, groups) == pytest.approx(max(means.values()) - min(means.values()))


def test_weights_count_as_copies() -> None:
    rng = np.random.default_rng(1)
    n = 200
    values, groups = rng.random(n), rng.choice(["x", "y"], n)
    told, true = rng.choice(["p", "q", "r"], n), rng.choice(["p", "q", "r"], n)
    weights = rng.integers(0, 4, (3, n)).astype(float)
    cells = OddsCells(told, true, split_groups(groups))
    gaps, means = cells.widest(*cells.rates(weights)), group_means(values, split_groups(groups), weights)
    for r, row in enumerate(weights):
        copies = np.repeat(np.arange(n), row.astype(int))
        tpr, fpr = gaps_of(told[copies], true[copies], groups[copies])
        assert [float(gap[r]) for gap in gaps] == pytest.approx([tpr, fpr, max(tpr, fpr)])
        assert means[r].tolist() == pytest.approx([values[copies][groups[copies] == g].mean() for g in "xy"])


@pytest.mark.parametrize("classes", [2, 5])
def test_equalised_odds_equal_loops(classes: int) -> None:
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 400).astype(str)
    told = np.where(rng.random(400) < 0.6, true, rng.integers(0, classes + 2, 400).astype(str))
    groups = rng.choice(["x", "y", "z"], 400, p=[0.6, 0.35, 0.05])
    tpr, fpr = odds_gaps(told, true, groups)
    assert gaps_of(told, true, groups) == pytest.approx((tpr, fpr))
    found = value_of("equalised_odds", np.ones(400), groups, answer=told, target=true)
    assert found == pytest.approx(max(tpr, fpr))


def test_even_treatment_has_no_gap_and_too_few_rows_a_sentence() -> None:
    true, groups = np.array(["yes", "no"] * 40), np.array(["x"] * 40 + ["y"] * 40)
    assert gaps_of(true, true, groups) == (0.0, 0.0)
    assert value_of("equalised_odds", np.ones(80), groups, answer=true, target=true) == 0.0
    with pytest.raises(InputError, match="no class has 30 rows in two groups"):
        gaps_of(true, true, groups, 30)


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
    with pytest.raises(ConfigError, match="k = 3 exceeds the 2 places"):
        max_skew([[0, 1]], [0.5, 0.5], 3)
    with pytest.raises(InputError, match="one group number per place"):
        ndkl([[0, 2]], [0.5, 0.5])
    with pytest.raises(InputError, match="desired shares"):
        ndkl([[0, 1]], [math.nan, 0.5])
