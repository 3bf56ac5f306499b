"""Ridge regression against scikit-learn and against leaving samples out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from clerestory.stats.ridge import PENALTIES, fit_ridge


def problem(samples: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(samples)
    x = rng.normal(size=(samples, features)) * rng.uniform(0.2, 3, features) + 5
    return x, x @ rng.normal(size=(features, 3)) * 0.1 + rng.normal(size=(samples, 3)) + 2


@pytest.mark.parametrize(("samples", "features"), [(12, 30), (40, 8), (20, 20)])
@pytest.mark.parametrize("penalty", [0.1, 3.0])
def test_weights_and_left_out_predictions_are_those_of_the_reference(
    samples: int, features: int, penalty: float
) -> None:
    x, y = problem(samples, features)
    fitted = fit_ridge(x, y, [penalty])
    alpha = penalty * ((x - x.mean(axis=0)) ** 2).sum() / samples
    reference = Reference(alpha=alpha).fit(x, y)
    assert fitted.weight == pytest.approx(reference.coef_.T, abs=1e-8)
    assert (x - fitted.feature_mean) @ fitted.weight + fitted.target_mean == pytest.approx(reference.predict(x))
    for i in range(samples):
        kept = np.arange(samples) != i
        alone = Reference(alpha=alpha).fit(x[kept], y[kept]).predict(x[i : i + 1])[0]
        assert fitted.left_out[i] == pytest.approx(alone, abs=1e-6)


def test_the_penalty_of_the_least_left_out_error_is_chosen_and_noise_gets_the_largest() -> None:
    x, _ = problem(60, 10)
    rng = np.random.default_rng(2)
    assert fit_ridge(x, x @ rng.normal(size=(10, 3)) + 0.01 * rng.normal(size=(60, 3))).penalty == min(PENALTIES)
    noise = np.random.default_rng(0).normal(size=(200, 40))
    assert fit_ridge(noise, np.random.default_rng(1).normal(size=(200, 3))).penalty > 1


def test_equal_samples_are_no_error() -> None:
    fitted = fit_ridge(np.ones((3, 4)), np.ones((3, 2)))
    assert fitted.weight == pytest.approx(0)
    assert fitted.left_out == pytest.approx(1)
