"""What can be solved without looking is found on items of which that is known."""

import math

import numpy as np
import pytest

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Interval, Recipe
from clerestory.stats.aggregate import aggregate
from clerestory.stats.agreement import blind_gain, blind_solvable, unanimous


def planted(seed: int, items: int = 1500, share: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blind answers to items of 2…5 options in 4 permutations: the planted ones are known, the others guessed."""
    rng = np.random.default_rng(seed)
    options = rng.integers(2, 6, items)
    known = rng.random(items) < share
    right = known[:, None] | (rng.random((items, 4)) < 1 / options[:, None])
    return right.astype(float), 1 / options, known


@pytest.mark.parametrize("seed", range(5))
def test_thirty_per_cent_planted_are_found_within_three_points(seed: int) -> None:
    right, chance, _ = planted(seed)
    found = blind_solvable(right, chance)
    assert abs(found.value - 0.30) <= 0.03
    assert isinstance(found.interval, Interval)
    assert found.n == 1500


def test_its_interval_covers_the_truth() -> None:
    hits = 0
    for seed in range(300):
        right, chance, _ = planted(seed, 300)
        interval = blind_solvable(right, chance).interval
        assert isinstance(interval, Interval)
        hits += interval.low <= 0.3 <= interval.high
    assert abs(hits / 300 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 300)


def test_without_the_correction_guesses_would_count() -> None:
    right, chance, _ = planted(0, share=0.0)
    assert abs(blind_solvable(right, chance).value) < 0.02
    assert right.mean() > 0.25


def test_a_model_that_prefers_a_place_is_not_taken_to_know() -> None:
    # It always answers the first of four options; cyclic permutations put the right one there once.
    items = 400
    right = np.zeros((items, 4))
    right[:, 0] = 1
    assert blind_solvable(right, 0.25).value == pytest.approx(0)


def test_the_recipe_gives_the_same_from_rows() -> None:
    right, chance, _ = planted(1, 200)
    rows = {
        "score": right.ravel(),
        "chance": np.repeat(chance, 4),
        "query": np.repeat(np.array([f"q{i}" for i in range(200)], dtype=object), 4),
    }
    found = aggregate(rows, Recipe("chance_corrected", "score", Tags(), "query", against="chance"))
    pure = blind_solvable(right, chance)
    assert found.value == pytest.approx(pure.value)
    assert found.clusters == pure.n
    assert isinstance(pure.interval, Interval)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((pure.interval.low, pure.interval.high))


def test_unscored_repetitions_are_left_out() -> None:
    right = np.array([[1.0, np.nan], [0.0, 1.0], [np.nan, np.nan], [1.0, 1.0]])
    found = blind_solvable(right, 0.5)
    assert found.n == 3
    assert found.value == pytest.approx(np.mean([1.0, 0.0, 1.0]))


def test_what_a_picture_adds_is_paired() -> None:
    right, _, _ = planted(2, 300)
    seen = np.maximum(right[:, :1], np.random.default_rng(0).random((300, 1)) < 0.5)
    found = blind_gain(seen, right)
    assert found.value == pytest.approx(seen.mean() - right.mean())
    assert isinstance(found.interval, Interval)
    assert found.interval.low > 0
    with pytest.raises(InputError, match="same items"):
        blind_gain(seen[:5], right)
    with pytest.raises(InputError, match="both with and without"):
        blind_gain([1.0, np.nan], [np.nan, 1.0])


def test_items_that_tell_nothing_apart_are_counted() -> None:
    nobody, everybody = unanimous([[0, 0], [1, 1], [1, 0], [1, 1]])
    assert (nobody.value, everybody.value) == (0.25, 0.5)


def test_what_cannot_be_judged_says_so() -> None:
    with pytest.raises(InputError, match="chance level"):
        blind_solvable([1.0, 0.0], 1.0)
    with pytest.raises(InputError, match="no item is scored"):
        blind_solvable([np.nan], 0.5)
    with pytest.raises(InputError, match="outside 0…1"):
        blind_solvable([2.0], 0.5)
