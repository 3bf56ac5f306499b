"""Calibration against torchmetrics, scikit-learn and plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error
from torchmetrics.functional.classification.calibration_error import _ce_compute

from clerestory.core.errors import ConfigError, InputError
from clerestory.core.evidence import Recipe
from clerestory.stats.aggregate import aggregate
from clerestory.stats.calibration import (
    BINS,
    brier_each,
    fit_temperature,
    nll,
    nll_each,
    probabilities,
    reliability,
)


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, kind: str = "width") -> float:
    """The calibration error as an evaluation computes it."""
    rows = {"confidence": np.asarray(confidence, dtype=float), "correct": np.asarray(correct, dtype=float)}
    return aggregate(rows, Recipe(f"ece_{kind}", "confidence", parameter=float(bins), against="correct")).value


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    return float(brier_each(probabilities, labels).mean())


answers = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def naive_ece(confidence: list[float], correct: list[bool], bins: int) -> float:
    """One loop over bins, one over answers, as Guo et al. write it."""
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (b == 0 and c == 0)]
        if inside:
            sure = sum(confidence[i] for i in inside) / len(inside)
            right = sum(correct[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(sure - right)
    return total


@given(answers, st.integers(1, 20))
def test_ece_is_the_naive_loop(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = [c for c, _ in rows], [r for _, r in rows]
    assert ece(confidence, correct, bins) == pytest.approx(naive_ece(confidence, correct, bins), abs=1e-12)


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_ece_equals_torchmetrics_where_no_confidence_saturates(bins: int) -> None:
    rng = np.random.default_rng(bins)
    p = softmax(rng.normal(0, 2, (4000, 7)), axis=1)
    labels = rng.integers(0, 7, 4000)
    found = ece(p.max(axis=1), p.argmax(axis=1) == labels, bins)
    # The public function rounds to float32 first; what it then computes takes float64, too.
    sure, right = torch.from_numpy(p.max(axis=1)), torch.from_numpy(p.argmax(axis=1) == labels)
    assert abs(found - float(_ce_compute(sure, right, torch.linspace(0, 1, bins + 1, dtype=torch.float64)))) < 1e-12
    public = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(labels), 7, n_bins=bins)
    assert abs(found - float(public)) < 1e-6


def test_a_saturated_confidence_gets_the_textbook_value() -> None:
    confidence, correct = [1.0, 0.95], [0, 1]
    # torchmetrics puts 1.0 into a bin of its own behind the last one.
    theirs = binary_calibration_error(torch.tensor([1.0, 0.95], dtype=torch.float64), torch.tensor([0, 1]), n_bins=15)
    assert float(theirs) == pytest.approx(0.525)
    assert ece(confidence, correct) == pytest.approx(0.475)


def test_edges_belong_to_the_lower_bin_and_nought_to_the_first() -> None:
    found = reliability([0.0, 0.2, 0.2000001, 0.4], [0, 1, 0, 1], bins=5)
    assert [(row.low, row.high, row.n) for row in found] == [(0.0, 0.2, 2), (0.2, 0.4, 2)]
    assert found[0].accuracy == 0.5
    assert found[0].interval.low < 0.5 < found[0].interval.high


@given(answers, st.integers(1, 20), st.randoms(use_true_random=False))
def test_mass_bins_keep_ties_together_in_any_order(rows: list[tuple[float, bool]], bins: int, random: object) -> None:
    before = ece([c for c, _ in rows], [r for _, r in rows], bins, "mass")
    turned = sorted(rows, key=lambda _: random.random())  # type: ignore[attr-defined]  # st.randoms has no type
    assert ece([c for c, _ in turned], [r for _, r in turned], bins, "mass") == pytest.approx(before, abs=1e-12)
    values = [c for c, _ in rows]
    assert sum(row.n for row in reliability(values, [r for _, r in rows], bins, "mass")) == len(rows)


def test_mass_bins_hold_equally_many_distinct_confidences() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(600), rng.random(600) < 0.5
    assert {row.n for row in reliability(confidence, correct, 15, "mass")} == {40}
    chunks = zip(np.array_split(np.argsort(confidence), 15), range(15), strict=True)
    naive = sum(abs((confidence[i] - correct[i]).mean()) * len(i) for i, _ in chunks) / 600
    assert ece(confidence, correct, 15, "mass") == pytest.approx(naive, abs=1e-12)


def test_the_diagram_adds_up_to_the_error() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence**2
    rows = reliability(confidence, correct)
    total = sum(row.n / 500 * abs(row.confidence - row.accuracy) for row in rows)
    assert total == pytest.approx(ece(confidence, correct), abs=1e-12)


def test_brier_and_nll_equal_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 3, (300, 5)), rng.integers(0, 5, 300)
    p = softmax(logits, axis=1)
    assert brier(p, labels) == pytest.approx(
        brier_score_loss(labels, p, labels=range(5), scale_by_half=False), abs=1e-12
    )
    assert nll(logits, labels) == pytest.approx(log_loss(labels, p), abs=1e-9)
    assert nll(np.log(p), labels) == pytest.approx(nll(logits, labels), abs=1e-12)
    yes = rng.random(300)
    said = (rng.random(300) < yes).astype(float)
    assert brier(yes, said) == pytest.approx(brier_score_loss(said, yes), abs=1e-12)
    columns = np.column_stack([1 - yes, yes])
    assert brier(columns, said.astype(int)) == pytest.approx(2 * brier(yes, said), abs=1e-12)


def test_huge_logits_stay_finite() -> None:
    assert nll([[1e5, 0.0], [0.0, 1e5]], [0, 0]) == pytest.approx(5e4)
    assert nll_each([[1e5, 0.0]], [0]).tolist() == [0.0]


@pytest.mark.parametrize("temperature", [0.03, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_planted_temperature_is_found_at_any_scale(temperature: float, scale: float) -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(0, 1.5, (20000, 6))
    labels = (np.cumsum(softmax(true, axis=1), axis=1) < rng.random((20000, 1))).sum(axis=1).clip(max=5)
    logits = true * temperature * scale
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature * scale, rel=0.03)
    best = nll(logits, labels, found)
    assert best <= min(nll(logits, labels, found * f) for f in (0.98, 1.02))
    assert ece(probabilities(logits, found).max(axis=1), logits.argmax(axis=1) == labels) < 0.02


def test_temperatures_that_have_no_optimum_end_at_the_bounds() -> None:
    sure = np.eye(4)[np.arange(40) % 4]
    cold = fit_temperature(sure, np.arange(40) % 4)
    hot = fit_temperature(sure, (np.arange(40) + 1) % 4)
    assert cold < 0.01 < 100 < hot
    assert math.isfinite(nll(sure, np.arange(40) % 4, cold))
    assert log_softmax(sure / hot, axis=1) == pytest.approx(-math.log(4), abs=1e-2)


def test_what_cannot_be_calibrated_says_so() -> None:
    with pytest.raises(InputError, match="confidence number 1 is 1.5"):
        reliability([0.5, 1.5], [0, 1])
    with pytest.raises(InputError, match="correct number 0 is nan"):
        reliability([0.5], [math.nan])
    with pytest.raises(InputError, match="shapes"):
        reliability([], [])
    with pytest.raises(ConfigError, match="0 bins"):
        reliability([0.5], [1], bins=0)
    with pytest.raises(ConfigError, match="width or mass"):
        reliability([0.5], [1], kind="middle")  # type: ignore[arg-type]  # a wrong kind is the point
    with pytest.raises(InputError, match="not a class"):
        nll([[0.1, 0.2]], [2])
    with pytest.raises(InputError, match="row 0 of the scores is not finite"):
        fit_temperature([[math.nan, 1.0]], [0])
    with pytest.raises(InputError, match="all the same"):
        fit_temperature([[1.0, 1.0]], [0])
