"""Ridge regression in closed form, with exact leave-one-out predictions.

Shape suffixes: N samples, F features, D targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted regression: ``(x - feature_mean) @ weight + target_mean``.

    Attributes:
        feature_mean: of the training samples (F).
        target_mean: of the training samples (D).
        weight: ``(F, D)``.
        penalty: relative to the mean squared length of the centred features.
        left_out: the predictions ``(N, D)`` for the training samples, each without itself.
    """

    feature_mean: Floats
    target_mean: Floats
    weight: Floats
    penalty: float
    left_out: Floats


def fit_ridge(features_NF: Floats, targets_ND: Floats, penalties: Sequence[float] = PENALTIES) -> Ridge:
    """Fit with the penalty that has the least squared error of the leave-one-out predictions.

    The means are fitted too, so the leverage of a sample is 1 / N more than that of the centred features. Without this
    correction, centred features predict every left-out sample exactly where there are more features than samples, since
    the sample is minus the sum of the others; the least penalty would then always win.

    Args:
        features_NF: of at least two samples.
        targets_ND: of the same samples.
        penalties: to choose from, relative to the mean squared length of the centred features.
    """
    feature_mean_F, target_mean_D = features_NF.mean(axis=0), targets_ND.mean(axis=0)
    x_NF, y_ND = (features_NF - feature_mean_F).astype(np.float64), (targets_ND - target_mean_D).astype(np.float64)
    number, is_wide = len(x_NF), len(x_NF) <= x_NF.shape[1]
    gram = x_NF @ x_NF.T if is_wide else x_NF.T @ x_NF
    eigenvalues, vectors = np.linalg.eigh(gram)
    values: Floats = eigenvalues.clip(0)
    scale = values.sum() / number or 1.0
    # Rows of the samples and their targets along the principal axes.
    axes_NM: Floats = vectors if is_wide else x_NF @ vectors
    projected_MD = axes_NM.T @ y_ND
    best: tuple[float, float, Floats, Floats] | None = None
    for penalty in penalties:
        shrunk_M: Floats = 1 / (values + penalty * scale)
        weights_MD: Floats = shrunk_M[:, None] * projected_MD
        leverage_M: Floats = shrunk_M
        if is_wide:  # the dual problem: the prediction is K (K + p)^-1 y
            weights_MD, leverage_M = values[:, None] * weights_MD, values * shrunk_M
        leverage_N = (axes_NM**2) @ leverage_M
        remaining_N1 = np.maximum(1 - leverage_N - 1 / number, 1e-9)[:, None]
        residual_ND = (y_ND - axes_NM @ weights_MD) / remaining_N1
        error = float((residual_ND**2).sum())
        if best is None or error < best[0]:
            best = error, penalty, residual_ND, shrunk_M
    assert best is not None  # there is at least one penalty
    _, penalty, residual_ND, shrunk_M = best
    solution = vectors @ (shrunk_M[:, None] * projected_MD)
    weight_FD = x_NF.T @ solution if is_wide else solution
    return Ridge(feature_mean_F, target_mean_D, weight_FD, penalty, targets_ND - residual_ND)
