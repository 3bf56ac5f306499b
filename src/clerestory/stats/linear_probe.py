"""Classifiers of frozen embeddings: a linear probe and k nearest neighbours.

N images to classify, M training images, D dimensions, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import InputError
from clerestory.stats.calibration import nll
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
MAX_STEPS = 150
PATIENCE = 2
NEIGHBOURS = 20
VOTE_TEMPERATURE = 0.07
SMOOTHING = 1e-3
MAX_BLOCK_CELLS = 1 << 22


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier.

    Attributes:
        weights_DK, bias_K: logits are ``x @ weights + bias``.
        strength: of its L2 penalty.
    """

    weights_DK: Floats
    bias_K: Floats
    strength: float

    def logits(self, features_ND: Floats) -> Floats:
        """(N, K)."""
        logits_NK: Floats = features_ND @ self.weights_DK + self.bias_K
        return logits_NK


class SelectedProbe(NamedTuple):
    """The probe with the best penalty strength, and its negative log-likelihood on held-out data."""

    probe: LinearProbe
    nll: float


def fit_linear_probe(
    train_MD: Floats, labels_M: Ints, num_classes: int, strength: float, start: LinearProbe | None = None
) -> LinearProbe:
    """Multinomial logistic regression by L-BFGS: mean NLL + strength / 2 · ‖W‖², without a penalty on the bias.

    The minimum is that of scikit-learn's ``LogisticRegression(C=1 / (strength · M))``.

    Raises:
        InputError: features that are not finite.
    """
    if not np.isfinite(train_MD).all():
        raise InputError("the training features are not all finite", "leave unreadable images out")
    m, d = train_MD.shape
    target_MK = np.zeros((m, num_classes))
    target_MK[np.arange(m), labels_M] = 1.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights_DK, bias_K = flat[: d * num_classes].reshape(d, num_classes), flat[d * num_classes :]
        logits_MK = train_MD @ weights_DK + bias_K
        likelihood = float((scipy.special.logsumexp(logits_MK, axis=1) - (logits_MK * target_MK).sum(axis=1)).mean())
        slope_MK = (scipy.special.softmax(logits_MK, axis=1) - target_MK) / m
        slope_DK = train_MD.T @ slope_MK + strength * weights_DK
        value = likelihood + strength / 2 * float((weights_DK**2).sum())
        return value, np.concatenate([slope_DK.ravel(), slope_MK.sum(axis=0)])

    initial = np.zeros(d * num_classes + num_classes)
    if start is not None:
        initial = np.concatenate([start.weights_DK.ravel(), start.bias_K])
    options = {"maxiter": MAX_STEPS, "ftol": 1e-8, "gtol": 1e-6}
    best = scipy.optimize.minimize(loss, initial, jac=True, method="L-BFGS-B", options=options).x
    return LinearProbe(best[: d * num_classes].reshape(d, num_classes), best[d * num_classes :], strength)


def select_linear_probe(
    train_MD: Floats, labels_M: Ints, val_ND: Floats, val_labels_N: Ints, num_classes: int
) -> SelectedProbe:
    """The probe with the strength in ``STRENGTHS`` that has the lowest NLL on held-out data.

    Each fit starts from the previous one; the search stops after two weaker penalties in a row that are worse.
    """
    best: SelectedProbe | None = None
    probe, worse = None, 0
    for strength in STRENGTHS:
        probe = fit_linear_probe(train_MD, labels_M, num_classes, strength, probe)
        value = nll(probe.logits(val_ND), val_labels_N)
        if best is None or value < best.nll:
            best, worse = SelectedProbe(probe, value), 0
        else:
            worse += 1
        if worse == PATIENCE:
            break
    assert best is not None  # the first strength gives one
    return best


def knn_logits(features_ND: Floats, train_MD: Floats, labels_M: Ints, num_classes: int, k: int = NEIGHBOURS) -> Floats:
    """(N, K) log shares of the votes of the k nearest by cosine, each of weight exp(cosine / 0.07) (Wu et al. 2018).

    Expects unit rows. Every class gets a thousandth of a vote, so that no share is zero.
    """
    k = min(k, len(train_MD))
    logits_NK = np.empty((len(features_ND), num_classes))
    block_rows = max(MAX_BLOCK_CELLS // max(len(train_MD), 1), 1)
    for start in range(0, len(features_ND), block_rows):
        cosines_BM = features_ND[start : start + block_rows] @ train_MD.T
        # A stable order, so that equal cosines vote in the order of the samples.
        nearest_Bk = np.argsort(-cosines_BM, axis=1, kind="stable")[:, :k]
        votes_Bk = scipy.special.softmax(np.take_along_axis(cosines_BM, nearest_Bk, axis=1) / VOTE_TEMPERATURE, axis=1)
        shares_BK = np.zeros((len(cosines_BM), num_classes))
        np.add.at(shares_BK, (np.arange(len(cosines_BM))[:, None], labels_M[nearest_Bk]), votes_Bk)
        logits_NK[start : start + block_rows] = np.log((shares_BK + SMOOTHING) / (1 + num_classes * SMOOTHING))
    return logits_NK
