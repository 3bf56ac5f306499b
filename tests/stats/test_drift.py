"""The drift detector: its bound on false alarms, its power, its state; and the features that it compares."""

from __future__ import annotations

import numpy as np
import pytest

from clerestory.core.errors import DataError
from clerestory.stats.alarm_budget import YEAR_S, min_windows, window_spend
from clerestory.stats.drift import DriftDetector, DriftStep
from clerestory.stats.drift_features import CategoryFeatures, FourierFeatures, StepFeatures, median_distance

WINDOW = 16


def gaussian(rng: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    rows = rng.standard_normal((count, 8))
    rows[:, 0] += shift
    return rows


def run(num_windows: int, shift: float, change: int, spend: float, seed: int, reference: int = 2000) -> list[DriftStep]:
    rng = np.random.default_rng(seed)
    rows = gaussian(rng, reference)
    features = FourierFeatures.fit(rows, seed, 64)
    detector = DriftDetector(features(rows), WINDOW, seed)
    steps = []
    for window in range(num_windows):
        steps.append(detector.step(features(gaussian(rng, WINDOW, shift if window >= change else 0.0)), spend))
        if steps[-1].alarm:
            detector.reset()
    return steps


def test_false_alarms_stay_within_what_was_spent() -> None:
    """20 streams of fresh counterparts, 60 windows each at a spend of 1/50: at most 24 alarms are expected."""
    alarms = sum(step.alarm for seed in range(20) for step in run(60, 0.0, 0, 1 / 50, seed))
    assert alarms <= 24 + 3 * np.sqrt(24)


def test_the_factor_has_mean_one_for_any_distribution() -> None:
    """The exact guarantee: swapping a window and its counterpart gives the reciprocal bet, the two add up to 2."""
    rng = np.random.default_rng(0)
    reference = np.abs(rng.standard_cauchy((400, 3)))  # heavy tails, skewed
    one, two = DriftDetector(reference, WINDOW), DriftDetector(reference, WINDOW)
    first = np.abs(rng.standard_cauchy((WINDOW, 3)))
    live = np.abs(rng.standard_cauchy((WINDOW, 3)))
    for detector in (one, two):
        detector.step(first, 0.01)
    counterpart, _ = two._counterpart()
    before = one._evidence_RB + 0.01
    two._position -= WINDOW
    one.step(live, 0.01)
    two._counterpart = lambda: (live, True)  # type: ignore[method-assign]
    two.step(counterpart, 0.01)
    assert np.allclose(one._evidence_RB / before + two._evidence_RB / before, 2.0)


def test_reused_counterparts_raise_no_false_alarm() -> None:
    """A reference of 400 has 12 fresh windows; 1,500 windows draw it again."""
    steps = run(1500, 0.0, 0, 1 / 10_000, seed=3, reference=400)
    assert [step.fresh for step in steps].count(True) == 200 // WINDOW
    assert not any(step.alarm for step in steps)


@pytest.mark.parametrize(("shift", "within"), [(1.0, 40), (2.0, 30)])
def test_a_shift_is_found_and_dated(shift: float, within: int) -> None:
    steps = run(30 + within, shift, 30, 1e-5, seed=1)
    (alarm,) = [step for step in steps if step.alarm][:1]
    assert alarm.window > 30
    assert 20 <= alarm.rising_since <= 45


def test_it_is_latched_until_it_is_reset() -> None:
    rng = np.random.default_rng(0)
    detector = DriftDetector(gaussian(rng, 800), WINDOW)
    alarms = [detector.step(gaussian(rng, WINDOW, 3.0), 1e-3).alarm for _ in range(60)]
    assert sum(alarms) == 1
    assert detector.latched
    spent = detector.spent
    detector.reset()
    assert (detector.evidence, detector.spent) == (0.0, spent)
    assert any(detector.step(gaussian(rng, WINDOW, 3.0), 1e-3).alarm for _ in range(40))


def test_it_goes_on_bit_for_bit_from_its_state() -> None:
    rng = np.random.default_rng(5)
    reference = gaussian(rng, 300)
    windows = [gaussian(rng, WINDOW, 0.3) for _ in range(40)]
    whole = DriftDetector(reference, WINDOW, seed=9)
    expected = [whole.step(window, 1e-4) for window in windows]
    part = DriftDetector(reference, WINDOW, seed=9)
    got = [part.step(window, 1e-4) for window in windows[:17]]
    resumed = DriftDetector(reference, WINDOW, seed=9)
    resumed.restore(part.state())
    got += [resumed.step(window, 1e-4) for window in windows[17:]]
    assert got == expected
    assert resumed.state() == whole.state()
    with pytest.raises(DataError, match="cannot be read"):
        resumed.restore(part.state()[:40])
    with pytest.raises(DataError, match="another drift detector"):
        DriftDetector(reference[:, :3], WINDOW).restore(part.state())


def test_a_small_reference_is_refused_with_the_number() -> None:
    with pytest.raises(DataError, match="63 usable observations, and windows of 16 need 64"):
        DriftDetector(np.zeros((63, 2)), 16)


def test_constant_features_are_no_drift() -> None:
    detector = DriftDetector(np.ones((200, 3)), WINDOW)
    assert not any(detector.step(np.ones((WINDOW, 3)), 1e-2).alarm for _ in range(30))


def test_a_new_constant_is_found() -> None:
    """Every live observation has a category that the reference lacks: no variance within windows at all."""
    features = CategoryFeatures.fit(["de"] * 200)
    detector = DriftDetector(features(["de"] * 200), WINDOW)
    alarms = [detector.step(features(["fr"] * WINDOW), 1e-5).alarm for _ in range(25)]
    assert any(alarms)


def test_fourier_features_approximate_the_kernel() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 5))
    features = FourierFeatures.fit(rows, count=4096)
    kernel = np.exp(-np.square(rows[:, None] - rows[None]).sum(axis=2) / (2 * features.bandwidth**2))
    assert np.abs(features(rows) @ features(rows).T - kernel).max() < 0.08
    distances = [np.linalg.norm(a - b) for i, a in enumerate(rows) for b in rows[:i]]
    assert median_distance(rows) == pytest.approx(np.median(distances))
    assert median_distance(np.ones((5, 2))) == 1.0


def test_steps_and_categories() -> None:
    steps = StepFeatures.fit(np.array([1.0, 2.0, 3.0, 4.0]), 4)
    below, inside, above, missing = steps(np.array([0.0, 2.6, 9.0, np.nan]))
    assert below.sum() == 0
    assert 0 < inside.sum() < above.sum() == len(steps.quantiles)
    assert missing.tolist() == [0.0] * len(steps.quantiles) + [1.0]
    assert StepFeatures.fit(np.array([np.nan]))(np.array([1.0])).tolist() == [[0.0]]
    categories = CategoryFeatures.fit(["b", "a", "b", "", "c"], 2)
    assert categories.categories == ("b", "a")
    assert categories(["b", "c", ""]).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_the_budget_goes_by_the_clock() -> None:
    day = 86_400.0
    assert window_spend(1, 60.0) == pytest.approx(60 / YEAR_S)
    assert window_spend(1, 60.0, share=0.25) == pytest.approx(15 / YEAR_S)
    assert window_spend(1, 90 * day) == 1 / 1000, "a long silence does not use up the budget"
    assert 1 / window_spend(1, 60) == pytest.approx(YEAR_S / 60)
    assert 1 / window_spend(1, 86_400) == pytest.approx(1000), "with little traffic the bound is stricter"


@pytest.mark.parametrize("spend", [1e-5, 1e-3, 0.2])
def test_no_alarm_is_possible_before_the_smallest_number_of_windows(spend: float) -> None:
    detector = DriftDetector(np.tile([1.0, 0.0], (200, 1)), WINDOW)
    steps = [detector.step(np.tile([0.0, 1.0], (WINDOW, 1)), spend) for _ in range(30)]
    first = next(step.window for step in steps if step.alarm)
    assert min_windows(spend) <= first <= min_windows(spend) + 2
