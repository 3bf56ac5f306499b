"""Out-of-distribution detection: scores, and how well they separate in- from out-of-distribution samples.

Every score is higher for samples that look *more in-distribution*; in-distribution is always the positive class.

Dimensions: N samples, K classes, D features, M training samples.

| score | from | source |
|---|---|---|
| ``msp`` | logits | largest softmax probability; Hendrycks & Gimpel 2017 |
| ``max_logit`` | logits | Hendrycks et al. 2022 |
| ``energy`` | logits | T · logsumexp(logits / T), the negative energy; Liu et al. 2020 |
| ``mahalanobis`` | features | −squared distance to the nearest class mean, shared covariance; Lee et al. 2018 |
| ``knn`` | features | −distance to the k-th nearest training sample; Sun et al. 2022 |
| ``mcm`` | cosines to class prompts | largest softmax of cosine / T; Ming et al. 2022 |

Ties: samples of equal score pass a threshold together. AUROC counts a tied pair as half, AUPR is the average precision
Σ (R_i − R_{i−1}) · P_i over distinct thresholds, and FPR95 is the lowest false-positive rate among the thresholds that
accept at least 95 % of the in-distribution samples: scikit-learn's definitions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clerestory.core.errors import ConfigError, InputError
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SCORES = ("msp", "max_logit", "energy", "mahalanobis", "knn", "mcm")
MIN_TPR = 0.95
BLOCK = 1 << 22


def msp(logits_NK: ArrayLike) -> Floats:
    """Largest softmax probability of each row."""
    found: Floats = scipy.special.softmax(_finite(logits_NK, "logits"), axis=1).max(axis=1)
    return found


def max_logit(logits_NK: ArrayLike) -> Floats:
    """Largest logit of each row."""
    found: Floats = _finite(logits_NK, "logits").max(axis=1)
    return found


def energy(logits_NK: ArrayLike, temperature: float = 1.0) -> Floats:
    """Negative free energy of each row: T · logsumexp(logits / T)."""
    found: Floats = temperature * scipy.special.logsumexp(_finite(logits_NK, "logits") / temperature, axis=1)
    return found


def mcm(cosines_NK: ArrayLike, temperature: float = 1.0) -> Floats:
    """Maximum concept matching: the largest softmax of the cosines to K class prompts, divided by T."""
    return msp(_finite(cosines_NK, "cosines") / temperature)


def mahalanobis(
    features_ND: ArrayLike, train_MD: ArrayLike, labels_M: ArrayLike, shrinkage: float | None = None
) -> Floats:
    """Minus the squared Mahalanobis distance to the nearest class mean.

    Args:
        features_ND: features to score.
        train_MD: training features.
        labels_M: their classes, of any type.
        shrinkage: of the shared covariance of the residuals towards a multiple of the identity, 0…1; None for the
            optimum of Ledoit & Wolf (2004), which is invertible even when D exceeds M.

    Raises:
        InputError: features that are not finite, have different widths, or are constant within every class.
        ConfigError: a shrinkage outside 0…1.
    """
    x_ND, train = _pair(features_ND, train_MD)
    names, numbers = np.unique(np.asarray(labels_M), return_inverse=True)
    if len(numbers) != len(train):
        raise InputError(f"{len(train)} training features have {len(numbers)} labels", "give one label per feature")
    counts = np.bincount(numbers)
    means_KD = np.zeros((len(names), train.shape[1]))
    np.add.at(means_KD, numbers, train)
    means_KD /= counts[:, None]
    residuals_MD = train - means_KD[numbers]
    covariance_DD = residuals_MD.T @ residuals_MD / len(train)
    scale = float(np.trace(covariance_DD)) / len(covariance_DD)
    if scale <= 0.0:
        raise InputError(
            "the training features are constant within every class", "give several different samples per class"
        )
    share = ledoit_wolf(residuals_MD) if shrinkage is None else shrinkage
    if not 0 <= share <= 1:
        raise ConfigError(f"the shrinkage {share:g} lies outside 0…1", "omit it for the Ledoit-Wolf optimum")
    shrunk_DD = (1 - share) * covariance_DD + share * scale * np.eye(len(covariance_DD))
    try:
        factor, _ = scipy.linalg.cho_factor(shrunk_DD, lower=True)
    except np.linalg.LinAlgError as error:
        raise InputError(
            "the covariance of the training features cannot be inverted", "give more samples or a larger shrinkage"
        ) from error
    # Whitened, the distance is Euclidean.
    white_ND = scipy.linalg.solve_triangular(factor, x_ND.T, lower=True).T
    centres_KD = scipy.linalg.solve_triangular(factor, means_KD.T, lower=True).T
    nearest_N: Floats = _squared_distances(white_ND, centres_KD).min(axis=1)
    return -nearest_N


def ledoit_wolf(residuals_MD: Floats) -> float:
    """The shrinkage towards the scaled identity that is optimal in mean square (Ledoit & Wolf 2004), 0…1.

    Of centred rows with covariance S and μ = tr S / D: min(1, b² / d²) with d² = ‖S − μI‖² and
    b² = Σ_m ‖x_m x_mᵀ − S‖² / M².
    """
    m, d = residuals_MD.shape
    covariance_DD = residuals_MD.T @ residuals_MD / m
    mean = float(np.trace(covariance_DD)) / d
    squares = float((covariance_DD**2).sum())
    spread = squares - d * mean**2
    if spread <= 0.0:
        return 1.0
    fourth = float((np.einsum("md,md->m", residuals_MD, residuals_MD) ** 2).sum())
    noise = (fourth / m - squares) / m
    return float(min(max(noise / spread, 0.0), 1.0))


def knn(features_ND: ArrayLike, train_MD: ArrayLike, k: int = 10, metric: Literal["cosine", "l2"] = "cosine") -> Floats:
    """Minus the distance to the k-th nearest training sample: 1 − cosine, or Euclidean.

    Computed in blocks of rows, so memory stays at about 32 MiB for any number of samples.

    Raises:
        InputError: features that are not finite, have different widths, or (for cosines) are zero.
        ConfigError: fewer training samples than ``k``, or an unknown metric.
    """
    x_ND, train = _pair(features_ND, train_MD)
    if not 1 <= k <= len(train):
        raise ConfigError(f"k = {k} is not in 1…{len(train)}, the number of training samples", "choose another k")
    if metric not in ("cosine", "l2"):
        raise ConfigError(f"{metric!r} is not a metric of distance", "use cosine or l2")
    if metric == "cosine":
        x_ND, train = unit_rows(x_ND, "features"), unit_rows(train, "training features")
    found = np.empty(len(x_ND))
    rows = max(BLOCK // len(train), 1)
    for start in range(0, len(x_ND), rows):
        block_BD = x_ND[start : start + rows]
        distances_BM = 1.0 - block_BD @ train.T if metric == "cosine" else np.sqrt(_squared_distances(block_BD, train))
        found[start : start + rows] = np.partition(distances_BM, k - 1, axis=1)[:, k - 1]
    return -found


class DetectionCurve:
    """Scores sorted once, for areas and rates at any weights of the rows (as a bootstrap needs them).

    Rows sorted by descending score save a copy of the weights.

    Args:
        score: (N,), higher = more in-distribution.
        in_distribution: (N,), 1 or 0.

    Every method takes ``weights_BN``, one row of weights per draw (None: every sample counts once), and returns (B,),
    NaN for a draw in which one of the classes has no weight.

    Raises:
        InputError: scores that are not finite, or only one of the two classes.
    """

    def __init__(self, score: ArrayLike, in_distribution: ArrayLike) -> None:
        score_N = np.asarray(score, dtype=np.float64)
        inside = np.asarray(in_distribution, dtype=np.float64)
        if score_N.ndim != 1 or score_N.shape != inside.shape or not np.isfinite(score_N).all():
            raise InputError("the scores are not one finite number per sample", "remove unscored samples")
        if not np.isin(inside, (0.0, 1.0)).all():
            raise InputError("in_distribution has values other than 0 and 1", "give 1 for in-distribution, else 0")
        if inside.min(initial=1.0) == inside.max(initial=0.0) or not len(inside):
            which = "in-distribution" if len(inside) and inside[0] else "out-of-distribution"
            raise InputError(
                f"all {len(inside)} samples are {which}, so detection cannot be measured",
                "add samples of the other class",
            )
        self._sorted = bool((np.diff(score_N) <= 0).all())
        self._order = np.argsort(-score_N, kind="stable")
        self._score_N, self._inside_N = score_N[self._order], inside[self._order]
        self._ends = np.flatnonzero(np.append(np.diff(self._score_N) != 0, True))

    def opposite(self) -> DetectionCurve:
        """The same samples with out-of-distribution as the positive class, by low scores."""
        back = np.argsort(self._order, kind="stable")
        return DetectionCurve(-self._score_N[back], 1 - self._inside_N[back])

    def auroc(self, weights_BN: Floats | None = None) -> Floats:
        """The trapezoid under the curve of true against false positives, in exact halves."""
        hits_BT, all_BT = self._counts(weights_BN)
        slips_BT = all_BT - hits_BT
        doubled_B = (slips_BT[:, 0] * hits_BT[:, 0]) + np.einsum(
            "bt,bt->b", np.diff(slips_BT, axis=1), hits_BT[:, 1:] + hits_BT[:, :-1]
        )
        return _divide(doubled_B, 2 * hits_BT[:, -1] * slips_BT[:, -1])

    def aupr(self, weights_BN: Floats | None = None) -> Floats:
        """Average precision of the positive class."""
        hits_BT, all_BT = self._counts(weights_BN)
        # Before the first threshold there are no positives: 0 / tiny is 0.
        precision_BT = hits_BT / np.maximum(all_BT, np.finfo(np.float64).tiny)
        gained_B = hits_BT[:, 0] * precision_BT[:, 0] + np.einsum(
            "bt,bt->b", np.diff(hits_BT, axis=1), precision_BT[:, 1:]
        )
        return np.where(all_BT[:, -1] > hits_BT[:, -1], _divide(gained_B, hits_BT[:, -1]), np.nan)

    def fpr95(self, weights_BN: Floats | None = None) -> Floats:
        """False-positive rate at the first threshold with a true-positive rate of at least 0.95."""
        hits_BT, all_BT = self._counts(weights_BN)
        tpr_BT = hits_BT / np.maximum(hits_BT[:, -1:], np.finfo(np.float64).tiny)
        first_B1 = (tpr_BT >= MIN_TPR).argmax(axis=1)[:, None]
        slips_B = np.take_along_axis(all_BT, first_B1, axis=1) - np.take_along_axis(hits_BT, first_B1, axis=1)
        found_B = _divide(slips_B[:, 0], all_BT[:, -1] - hits_BT[:, -1])
        return np.where(hits_BT[:, -1] > 0, found_B, np.nan)

    def _counts(self, weights_BN: Floats | None) -> tuple[Floats, Floats]:
        """Weights of the true positives and of all accepted rows at each distinct threshold, strictest first."""
        weights = np.ones((1, len(self._order))) if weights_BN is None else weights_BN
        sorted_BN = weights if self._sorted else weights[:, self._order]
        hits_BN, all_BN = np.cumsum(sorted_BN * self._inside_N, axis=1), np.cumsum(sorted_BN, axis=1)
        if len(self._ends) == len(self._order):
            return hits_BN, all_BN
        return hits_BN[:, self._ends], all_BN[:, self._ends]


def unit_rows(x_ND: Floats, name: str) -> Floats:
    """Rows of length 1.

    Raises:
        InputError: a row is zero.
    """
    lengths_N1 = np.linalg.norm(x_ND, axis=1, keepdims=True)
    if (lengths_N1 == 0).any():
        at = int((lengths_N1 == 0).argmax())
        raise InputError(f"row {at} of the {name} is zero, so it has no direction", "remove it")
    found: Floats = x_ND / lengths_N1
    return found


def _divide(above: Floats, below: Floats) -> Floats:
    """The quotient; NaN where the divisor is 0."""
    full = np.broadcast_to(below, above.shape)
    found: Floats = np.divide(above, full, out=np.full(above.shape, np.nan), where=full > 0)
    return found


def _squared_distances(x_ND: Floats, y_MD: Floats) -> Floats:
    squares_NM = (x_ND**2).sum(axis=1)[:, None] + (y_MD**2).sum(axis=1) - 2 * x_ND @ y_MD.T
    found: Floats = np.maximum(squares_NM, 0.0)
    return found


def _pair(features_ND: ArrayLike, train_MD: ArrayLike) -> tuple[Floats, Floats]:
    x_ND, train = _finite(features_ND, "features"), _finite(train_MD, "training features")
    if x_ND.shape[1] != train.shape[1]:
        widths = f"{x_ND.shape[1]} and {train.shape[1]}"
        raise InputError(f"features and training features have {widths} columns", "take both from the same model")
    return x_ND, train


def _finite(values: ArrayLike, name: str) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or not found.size:
        raise InputError(f"the {name} have the shape {found.shape}", "give one row per sample")
    if not np.isfinite(found).all():
        at = int((~np.isfinite(found).all(axis=1)).argmax())
        raise InputError(f"row {at} of the {name} is not finite", "remove unscored samples")
    return found
