"""Classifiers on frozen embeddings: a linear probe and k nearest neighbours.

Dimensions: N pictures to classify, M pictures to learn from, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from clerestory.core.errors import InputError
from clerestory.stats.calibration import nll

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
STEPS = 150
NEIGHBOURS = 20
TEMPERATURE = 0.07
SMOOTHING = 1e-3
BLOCK = 1 << 22


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
        found: Floats = features_ND @ self.weights_DK + self.bias_K
        return found


class SelectedProbe(NamedTuple):
    """The probe whose strength of penalty did best on data it was not fitted to.

    Attributes:
        probe: it.
        nll: its negative log likelihood there.
    """

    probe: LinearProbe
    nll: float


def fit_linear(
    train_MD: Floats, labels_M: Ints, classes: int, strength: float, start: LinearProbe | None = None
) -> LinearProbe:
    """Multinomial logistic regression by L-BFGS: mean NLL + strength / 2 · ‖W‖², the bias free.

    The minimum is that of scikit-learn's ``LogisticRegression(C=1 / (strength · M))``.

    Raises:
        InputError: features that are not finite.
    """
    if not np.isfinite(train_MD).all():
        raise InputError("the features to learn from are not all finite", "leave unreadable pictures out")
    m, d = train_MD.shape
    wanted_MK = np.zeros((m, classes))
    wanted_MK[np.arange(m), labels_M] = 1.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights_DK, bias_K = flat[: d * classes].reshape(d, classes), flat[d * classes :]
        logits_MK = train_MD @ weights_DK + bias_K
        likelihood = float((logsumexp(logits_MK, axis=1) - (logits_MK * wanted_MK).sum(axis=1)).mean())
        slope_MK = (softmax(logits_MK, axis=1) - wanted_MK) / m
        slope_DK = train_MD.T @ slope_MK + strength * weights_DK
        value = likelihood + strength / 2 * float((weights_DK**2).sum())
        return value, np.concatenate([slope_DK.ravel(), slope_MK.sum(axis=0)])

    first = np.zeros(d * classes + classes)
    if start is not None:
        first = np.concatenate([start.weights_DK.ravel(), start.bias_K])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "ftol": 1e-8, "gtol": 1e-6})
    return LinearProbe(found.x[: d * classes].reshape(d, classes), found.x[d * classes :], strength)


def choose_linear(train_MD: Floats, labels_M: Ints, val_ND: Floats, val_labels_N: Ints, classes: int) -> SelectedProbe:
    """The probe of the strength in ``STRENGTHS`` with the least NLL on held-out data; each starts where the last ended.

    Once a weaker penalty is worse twice in a row, still weaker ones are not tried.
    """
    best: SelectedProbe | None = None
    probe, worse = None, 0
    for strength in STRENGTHS:
        probe = fit_linear(train_MD, labels_M, classes, strength, probe)
        value = nll(probe.logits(val_ND), val_labels_N)
        if best is None or value < best.nll:
            best, worse = SelectedProbe(probe, value), 0
        else:
            worse += 1
        if worse == 2:
            break
    if best is None:
        raise InputError("there is no strength of penalty to choose from", "give one or more")
    return best


def knn_logits(features_ND: Floats, train_MD: Floats, labels_M: Ints, classes: int, k: int = NEIGHBOURS) -> Floats:
    """(N, K) log shares of the votes of the k nearest by cosine, each weighing exp(cosine / 0.07) (Wu et al. 2018).

    Unit rows are expected. Every class has a thousandth of a vote besides, so that no share is nought.
    """
    k = min(k, len(train_MD))
    found = np.empty((len(features_ND), classes))
    rows = max(BLOCK // max(len(train_MD), 1), 1)
    for start in range(0, len(features_ND), rows):
        cosines_BM = features_ND[start : start + rows] @ train_MD.T
        # A stable order, so that equal cosines vote in the order of the samples.
        nearest_Bk = np.argsort(-cosines_BM, axis=1, kind="stable")[:, :k]
        votes_Bk = softmax(np.take_along_axis(cosines_BM, nearest_Bk, axis=1) / TEMPERATURE, axis=1)
        shares_BK = np.zeros((len(cosines_BM), classes))
        np.add.at(shares_BK, (np.arange(len(cosines_BM))[:, None], labels_M[nearest_Bk]), votes_Bk)
        found[start : start + rows] = np.log((shares_BK + SMOOTHING) / (1 + classes * SMOOTHING))
    return found
