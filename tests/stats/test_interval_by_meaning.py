"""The kind of interval follows from the meaning of a metric, not from the values that happen to be in the rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.core.evidence import Recipe
from clerestory.stats.aggregate import measure, recompute
from clerestory.stats.metrics import metric, registered
from clerestory.stats.paired import paired_difference

CHANGES = ["mrr_change", "recall@10_loss", "shift_gap", "blind_gain", "contamination_gain", "effective_robustness"]
SHARES = ["accuracy", "recall@1", "faults_caught", "contamination", "accuracy_all_orders"]
AMOUNTS = ["nll", "ndkl", "latency_p95", "cider", "peak_memory"]


@pytest.mark.parametrize("name", [*CHANGES, "accuracy.difference", "recall@10.difference", "mrr.difference"])
def test_a_change_of_nothing_has_an_interval_on_both_sides_of_0(name: str) -> None:
    rows = {"x": np.zeros(30)}
    found = measure(rows, Recipe("mean", "x"), name)
    assert found.value == 0
    assert found.interval is not None
    assert found.interval.low == -found.interval.high < 0
    assert found.interval.high == pytest.approx(paired_difference(rows["x"], rows["x"], np.arange(30)).interval.high)  # type: ignore[union-attr]  # it has one


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=60), st.sampled_from(CHANGES))
def test_a_change_of_noughts_and_ones_may_be_negative_in_the_population(values: list[float], name: str) -> None:
    """One image of many gained: the interval reaches below 0, which that of a share never does."""
    found = measure({"x": np.array(values)}, Recipe("mean", "x"), name)
    if found.interval is None:
        assert set(values) == {1.0}
        return
    assert found.interval.method != "cluster-wilson"
    assert found.interval.low <= found.value <= found.interval.high
    if sum(values) == 1:
        assert found.interval.low < 0


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", SHARES)
def test_a_share_stays_within_0_and_1(name: str, value: float) -> None:
    found = measure({"x": np.full(30, value)}, Recipe("mean", "x"), name)
    assert found.interval is not None
    assert found.interval.method == "cluster-wilson"
    assert 0 <= found.interval.low < found.interval.high <= 1


@pytest.mark.parametrize("name", AMOUNTS)
def test_amounts_that_happen_to_be_0_or_1_are_not_shares(name: str) -> None:
    constant = measure({"x": np.zeros(30)}, Recipe("mean", "x"), name)
    assert constant.interval is None
    assert constant.no_interval
    mixed = measure({"x": np.array([0.0, 1.0, 1.0, 1.0])}, Recipe("mean", "x"), name)
    assert mixed.interval is not None
    assert mixed.interval.method == "cluster-t"
    assert mixed.interval.high > 1, "an amount may exceed 1"


def test_a_price_of_0_has_no_upper_bound_of_a_share() -> None:
    free = measure({"x": np.zeros(30)}, Recipe("mean", "x"), "cost_per_1000", unit="EUR")
    assert free.interval is None


def test_the_worst_group_of_a_change_can_be_negative() -> None:
    rng = np.random.default_rng(0)
    rows = {"x": rng.random(200) * 0.2, "style": np.array(["a", "b"] * 100, dtype=object)}
    found = measure(rows, Recipe("worst_group", "x", against="style"), "mrr_change")
    assert found.interval is not None
    share = measure(rows, Recipe("worst_group", "x", against="style"), "worst_group")
    assert share.interval is not None
    assert share.interval.low >= 0


def test_every_difference_of_shares_in_the_registry_says_that_it_is_one() -> None:
    """Metrics whose meaning subtracts one share from another; gaps between extremes cannot be negative."""
    for each in registered().values():
        subtracts = " minus " in each.meaning and "best group" not in each.meaning and each.unit in ("share", "score")
        if subtracts or "corrected for guessing" in each.meaning:
            assert each.value_range == (-1.0, 1.0), each.name
    assert metric("accuracy.difference").value_range == (-1.0, 1.0)
    assert metric("latency_p95.difference").value_range is None


def test_a_recomputed_measurement_has_the_same_interval() -> None:
    rows = {"x": np.array([0.0, 0.0, 1.0, 0.0])}
    for name, unit in (("mrr_change", ""), ("accuracy", ""), ("of_somebody_else", "share"), ("of_nobody", "metres")):
        found = measure(rows, Recipe("mean", "x"), name, unit=unit)
        assert recompute(rows, dataclasses.replace(found)) == found


def test_the_interval_of_answers_above_chance_is_that_of_the_share_on_another_scale() -> None:
    rows = {"x": np.ones(30), "chance": np.full(30, 0.25)}
    share = measure(rows, Recipe("mean", "x"), "accuracy").interval
    above = measure(rows, Recipe("chance_corrected", "x", against="chance"), "blind_solvable").interval
    assert share is not None
    assert above is not None
    assert (above.low, above.high) == pytest.approx(((share.low - 0.25) / 0.75, 1.0))
