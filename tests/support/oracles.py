"""Metrics as their papers define them, in plain loops: what the product's statistics are checked against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Rates = Mapping[str, Sequence[float]]


def mce(errors: Rates, reference: Rates) -> float:
    """Mean corruption error (Hendrycks & Dietterich 2019) from error rates by corruption, one for each severity."""
    return float(np.mean([sum(errors[name]) / sum(reference[name]) for name in errors]))


def relative_mce(errors: Rates, clean: float, reference: Rates, reference_clean: float) -> float:
    """The same of the errors that each corruption adds to the clean ones."""
    added = [(np.mean(errors[name]) - clean) / (np.mean(reference[name]) - reference_clean) for name in errors]
    return float(np.mean(added))


def group_means(values: np.ndarray, groups: np.ndarray, n_min: int = 10) -> dict[str, float]:
    """The mean of each group with at least ``n_min`` rows."""
    names = sorted(set(groups) - {"", "mixed"})
    return {g: float(values[groups == g].mean()) for g in names if (groups == g).sum() >= n_min}


def odds_gaps(predicted: np.ndarray, actual: np.ndarray, groups: np.ndarray, n_min: int = 10) -> tuple[float, float]:
    """The largest difference between groups in true- and in false-positive rate (Hardt et al. 2016)."""
    tpr_gap = fpr_gap = 0.0
    names = [g for g in set(groups) - {"", "mixed"} if (groups == g).sum() >= n_min]
    for label in set(actual):
        tpr, fpr = [], []
        for group in names:
            positive, negative = (groups == group) & (actual == label), (groups == group) & (actual != label)
            if positive.sum() >= n_min:
                tpr.append((predicted[positive] == label).mean())
            if negative.sum() >= n_min:
                fpr.append((predicted[negative] == label).mean())
        tpr_gap = max(tpr_gap, max(tpr) - min(tpr)) if len(tpr) > 1 else tpr_gap
        fpr_gap = max(fpr_gap, max(fpr) - min(fpr)) if len(fpr) > 1 else fpr_gap
    return tpr_gap, fpr_gap
