"""Words for differences: each of them earned, with plain sentences, and as rarely wrong as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.core.errors import ConfigError
from clerestory.stats.paired import paired_difference
from clerestory.stats.verdict import ComparisonVerdict, GateResult, gate_difference, judge_difference

OPPOSITE = {"better": "worse", "worse": "better", "no_difference": "no_difference", "inconclusive": "inconclusive"}


def answers(n: int, won: int, lost: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B on n samples, of which only A gets ``won`` right and only B ``lost``."""
    a, b = np.ones(n), np.ones(n)
    b[:won] = 0
    a[won : won + lost] = 0
    return a, b


def compared(n: int, won: int, lost: int, margin: float = 0.01) -> ComparisonVerdict:
    a, b = answers(n, won, lost)
    return judge_difference(paired_difference(a, b, np.arange(n)), margin)


@pytest.mark.parametrize(
    ("n", "won", "lost", "word"),
    [
        (1000, 60, 20, "better"),
        (1000, 20, 60, "worse"),
        (10_000, 20, 20, "no_difference"),
        (2000, 0, 0, "no_difference"),
        (200, 5, 5, "inconclusive"),
        (20, 0, 0, "inconclusive"),
        (2, 0, 1, "inconclusive"),
    ],
)
def test_words(n: int, won: int, lost: int, word: str) -> None:
    found = compared(n, won, lost)
    assert found.outcome == word
    assert (found.additional is not None) == (word == "inconclusive")
    assert f"on {n:,} samples" in found.message


def test_sentences() -> None:
    assert compared(1000, 60, 20).message == (
        "A is better than B: +4 points (95 % interval +2.24 to +5.75) on 1,000 samples."
    )
    assert compared(2000, 0, 0).message == (
        "A is as good as B; they differ by less than a margin of 1 point: +0 points (95 % interval -0.139 to "
        "+0.139) on 2,000 samples."
    )
    assert "more samples are needed" in compared(200, 5, 5).message


def test_what_it_needs_is_enough() -> None:
    """With as many samples as it asked for, and the two as alike as they seemed, the verdict is there."""
    first = compared(400, 8, 8)
    assert first.additional is not None
    n = 400 + first.additional.rows
    assert compared(n, n // 50, n // 50).outcome == "no_difference"
    assert first.additional.rows > 1500
    assert compared(800, 16, 16).outcome == "inconclusive"


def test_enough_samples_and_still_between_asks_for_more() -> None:
    found = compared(20_000, 300, 185)
    assert found.outcome == "better"
    undecided = judge_difference(paired_difference(*answers(20_000, 240, 210), np.arange(20_000)), margin=0.002)
    assert undecided.outcome == "inconclusive"
    assert undecided.additional is not None
    assert undecided.additional.rows > 0


def test_lower_is_better() -> None:
    a, b = answers(1000, 60, 20)
    difference = paired_difference(a, b, np.arange(1000))
    assert judge_difference(difference, direction="lower").outcome == "worse"


def test_other_comparisons_can_take_a_verdict_back_and_never_give_one() -> None:
    difference = paired_difference(*answers(1000, 40, 20), np.arange(1000))
    assert judge_difference(difference).outcome == "better"
    assert judge_difference(difference, p=0.2).outcome == "inconclusive"
    level = paired_difference(*answers(200, 5, 5), np.arange(200))
    assert judge_difference(level, p=0.001).outcome == "inconclusive"


def test_a_difference_too_small_to_matter_is_named() -> None:
    found = judge_difference(paired_difference(*answers(100_000, 300, 150), np.arange(100_000)))
    assert found.outcome == "better"
    assert "by less than a margin of 1 point" in found.message


def test_clusters_unscored_rows_and_units_are_in_the_sentence() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(20, 5, 90), rng.normal(10, 5, 90)
    a[:3] = np.nan
    found = judge_difference(paired_difference(a, b, np.arange(90) % 9), 1.0, "lower", "ms", ("new", "old"))
    assert found.message.startswith("new is worse than old: +")
    assert " ms (95 % interval" in found.message
    assert "on 87 samples in 9 clusters, 3 more not scored for both; only 9 clusters" in found.message


def test_no_spread_is_inconclusive_with_the_reason() -> None:
    found = judge_difference(paired_difference(np.ones(5), np.ones(5), np.zeros(5, dtype=int)))
    assert found.outcome == "inconclusive"
    assert "one cluster" in found.message


@given(st.integers(2, 3000), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=80, deadline=None)
def test_swapping_the_two_gives_the_opposite_word(n: int, won: int, lost: int) -> None:
    won, lost = min(won, n // 2), min(lost, n // 2)
    one, other = compared(n, won, lost), compared(n, lost, won)
    assert one.outcome == OPPOSITE[other.outcome]
    assert one.additional == other.additional


def gate(n: int, won: int, lost: int, margin: float = 0.01, alpha: float = 0.01) -> GateResult:
    candidate, live = answers(n, won, lost)
    return gate_difference(candidate, live, np.arange(n), margin, alpha)


@pytest.mark.parametrize(
    ("n", "won", "lost", "answer"),
    [
        (5000, 20, 20, "pass"),
        (2000, 0, 0, "pass"),
        (2000, 20, 60, "fail"),
        (2000, 20, 28, "cannot_decide"),
        (30, 0, 0, "cannot_decide"),
        (2, 0, 0, "cannot_decide"),
        (100_000, 150, 300, "pass"),
    ],
)
def test_gate(n: int, won: int, lost: int, answer: str) -> None:
    found = gate(n, won, lost)
    assert found.outcome == answer
    assert (found.additional is not None) == (answer == "cannot_decide")


def test_gate_sentences() -> None:
    assert gate(2000, 20, 60).message.startswith("The candidate is worse than the live model: -2 points (98 % interval")
    assert "a little worse, by less than 1 point" in gate(100_000, 150, 300).message
    found = gate(2000, 20, 28)
    assert found.additional is not None
    assert f"about {found.additional.rows:,} more samples are needed" in found.message
    assert found.detectable == pytest.approx(0.011, abs=0.0005)


def test_gate_where_lower_is_better() -> None:
    """Losses as 0/1 and other scores: swapping both the sides and the direction changes nothing."""
    a, b = answers(2000, 20, 60)
    for one, other in ((a, b), (a * 3.0, b * 3.0)):
        left = gate_difference(one, other, np.arange(2000))
        right = gate_difference(other, one, np.arange(2000), direction="lower")
        assert left == right
        assert left.outcome == "fail"


def test_gate_counts_a_lost_cluster_once() -> None:
    """Sixty lost rows of three concepts are three losses, not sixty."""
    candidate, live = answers(2000, 0, 60)
    assert gate_difference(candidate, live, np.arange(2000)).outcome == "fail"
    assert gate_difference(candidate, live, np.arange(2000) // 20).outcome == "cannot_decide"


def test_gate_of_one_cluster_cannot_tell() -> None:
    found = gate_difference(np.ones(9), np.ones(9), np.zeros(9, dtype=int))
    assert (found.outcome, found.additional, found.p) == ("cannot_decide", None, None)


@pytest.mark.parametrize(("margin", "alpha"), [(0.0, 0.01), (-1.0, 0.01), (0.01, 0.0), (0.01, 0.7)])
def test_impossible_settings(margin: float, alpha: float) -> None:
    with pytest.raises(ConfigError):
        gate(100, 0, 0, margin, alpha)


@pytest.mark.parametrize(("drop", "least", "most"), [(0.0, 0.0, 0.012), (0.02, 0.97, 1.0)])
def test_gate_catches_two_points_and_seldom_cries_wolf(drop: float, least: float, most: float) -> None:
    """2,000 samples, 75 % right, 1 % of all flipping either way, α = 0.01."""
    rng, rounds, failed = np.random.default_rng(40), 1200, 0
    for _ in range(rounds):
        live = rng.random(2000) < 0.75
        chance = rng.random(2000)
        flipped = np.where(live, chance < (0.01 + drop) / 0.75, chance < 0.01 / 0.25)
        candidate = live ^ flipped
        failed += gate_difference(candidate.astype(float), live.astype(float), np.arange(2000)).outcome == "fail"
    assert least <= failed / rounds <= most


def test_gate_seldom_passes_a_drop_of_the_margin() -> None:
    rng, rounds, passed = np.random.default_rng(41), 600, 0
    for _ in range(rounds):
        draw = rng.random(3000)
        won, lost = int((draw < 0.01).sum()), int((draw > 0.98).sum())
        passed += gate(3000, won, lost).outcome == "pass"
    assert passed / rounds <= 0.02
