"""The measures of an evaluation beside their peers: calibration, detection, blind items, effective robustness."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.functional.classification.calibration_error import _ce_compute

from clerestory.core.evidence import Recipe
from clerestory.stats.aggregate import aggregate
from clerestory.stats.calibration import BINS
from clerestory.stats.ood import DetectionCurve
from clerestory.stats.robustness import published_lines, source
from table import Row

KNOWN = {"imagenet_v2": 0.999, "imagenet_sketch": 0.969, "imagenet_r": 0.945, "imagenet_a": 0.853}


def rows() -> list[Row]:
    """All of them; about five seconds."""
    return [_calibration(), _saturated(), _detection(), _blind(), *_lines()]


def _ece(confidence: ArrayLike, correct: ArrayLike) -> float:
    """The calibration error as an evaluation computes it, from rows."""
    rows = {"confidence": np.asarray(confidence, np.float64), "score": np.asarray(correct, np.float64)}
    return aggregate(rows, Recipe("ece_width", "confidence", parameter=float(BINS), against="score")).value


def _calibration(trials: int = 50) -> Row:
    """Largest difference over random classifiers, in torchmetrics' float64 kernel."""
    largest = 0.0
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        p = softmax(rng.normal(0, rng.uniform(0.5, 5), (4000, 10)), axis=1)
        confidence, right = p.max(axis=1), p.argmax(axis=1) == rng.integers(0, 10, 4000)
        keep = confidence < 1.0
        confidence, right = confidence[keep], right[keep]
        theirs = _ce_compute(torch.from_numpy(confidence), torch.from_numpy(right), edges)
        largest = max(largest, abs(_ece(confidence, right) - float(theirs)))
    note = "no confidence is 1; torchmetrics' own kernel, before its public function rounds to float32"
    return Row("ECE, largest difference", largest, "", "< 1e-7", largest < 1e-7, trials, "torchmetrics", note)


def _saturated() -> Row:
    confidence = torch.tensor([1.0, 0.95], dtype=torch.float64)
    theirs = float(binary_calibration_error(confidence, torch.tensor([0, 1]), n_bins=BINS))
    found = _ece([1.0, 0.95], [0, 1])
    holds = abs(found - 0.475) < 1e-12
    return Row(
        "ECE with a confidence of 1", found, "", "textbook value 0.475", holds, 2, "torchmetrics", f"it: {theirs:.3f}"
    )


def _detection(trials: int = 30) -> Row:
    """Largest difference of the four numbers over tied and untied scores."""
    largest = 0.0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        inside = (rng.random(5000) < rng.uniform(0.05, 0.95)).astype(int)
        score = rng.normal(inside, 1.0)
        if seed % 2:
            score = np.round(score, 1)
        curve = DetectionCurve(score, inside)
        areas = (curve.auroc, curve.aupr, curve.opposite().aupr, curve.fpr95)
        ours = np.array([area()[0] for area in areas])
        largest = max(largest, float(np.abs(ours - _peer(inside, score)).max()))
    note = "AUROC, AUPR in and out, FPR95; every other case is full of ties"
    return Row("OOD, largest difference", largest, "", "≤ 1e-12", largest <= 1e-12, trials, "scikit-learn", note)


def _peer(inside: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.float64]:
    fpr, tpr, _ = roc_curve(inside, score, drop_intermediate=False)
    precision = average_precision_score(inside, score), average_precision_score(1 - inside, -score)
    return np.array([roc_auc_score(inside, score), *precision, fpr[np.argmax(tpr >= 0.95)]])


def _blind(items: int = 2000, trials: int = 20) -> Row:
    """Synthetic questions with 2…5 options in four permutations; 30 % are known blind, the others guessed."""
    found = []
    covered = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        options = rng.integers(2, 6, items)
        known = np.arange(items) < 0.3 * items
        right = known[:, None] | (rng.random((items, 4)) < 1 / options[:, None])
        rows = {
            "score": right.astype(np.float64).ravel(),
            "chance": np.repeat(1 / options, 4),
            "concept": np.repeat(np.arange(items), 4).astype(object),
        }
        share = aggregate(rows, Recipe("chance_corrected", "score", cluster="concept", against="chance"))
        covered += share.interval is not None and share.interval.low <= 0.3 <= share.interval.high
        found.append(100 * share.value)
    worst = max(found, key=lambda value: abs(value - 30))
    note = f"the worst of {trials} datasets of {items} questions; {covered} of {trials} intervals hold 30"
    return Row("blind-solvable share, 30 % planted", worst, "%", "30 ± 3 %", abs(worst - 30) <= 3, trials, note=note)


def _lines() -> list[Row]:
    """R² of the lines that the product ships, beside those known for the same table."""
    found = []
    for name, line in published_lines().items():
        known = KNOWN.get(name)
        bar = f"{known:.3f}" if known else "none"
        holds = known is None or round(line.r2, 3) == known
        note = "refused: R² < 0.8" if line.r2 < 0.8 else f"slope {line.slope:.3f}"
        found.append(Row(f"effective robustness, {name}, R²", line.r2, "", bar, holds, line.n, source()["name"], note))
    return found
