"""Calibration: reliability bins, proper scores, and temperature scaling.

Dimensions: N answers, K classes.

A confidence is the probability (0…1) that the model assigns to its answer; ``correct`` is 1 where the answer is
correct. Bins are right-closed: a confidence on an edge is in the lower bin; 0 is in the first.

| kind | edges | source |
|---|---|---|
| ``width`` | i/bins, each the nearest double | Guo et al. 2017 |
| ``mass`` | the confidences of rank ⌈i·N/bins⌉, so that equal ones share a bin | Nixon et al. 2019 |
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clerestory.core.errors import ConfigError, InputError
from clerestory.core.evidence import Interval
from clerestory.stats.intervals import wilson
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["width", "mass"]

BINS = 15
NORMAL_95 = 1.959963984540054
# The range of temperatures, relative to the standard deviation of the logits within a row.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3


class ReliabilityBin(NamedTuple):
    """One row of a reliability diagram.

    Attributes:
        low, high: its confidences are in (low, high]; the first bin also includes its lower end.
        n: number of answers, at least 1.
        confidence: their mean confidence.
        accuracy: their accuracy.
        interval: 95 % interval of the accuracy (Wilson), as if all answers were independent.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    interval: Interval


def bin_edges(confidence_N: Floats, bins: int, kind: Kind) -> Floats:
    """The ``bins + 1`` edges, from 0 to 1.

    Raises:
        ConfigError: fewer than one bin, or an unknown kind.
    """
    if bins < 1:
        raise ConfigError(f"{bins} bins are too few", "use 15, the usual number")
    inner = np.arange(1, bins)
    if kind == "width":
        edges = inner / bins
    elif kind == "mass":
        ranks = -(-inner * len(confidence_N) // bins)
        edges = np.sort(confidence_N)[np.maximum(ranks - 1, 0)]
    else:
        raise ConfigError(f"{kind!r} is not a kind of bins", "use width or mass")
    return np.concatenate([[0.0], edges, [1.0]])


def bin_numbers(confidence_N: Floats, edges: Floats) -> Ints:
    """The bin (0, 1, …) of each confidence: the number of inner edges strictly below it."""
    return np.searchsorted(edges[1:-1], confidence_N, side="left").astype(np.int64)


def reliability(
    confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, kind: Kind = "width"
) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram that have answers, in order."""
    confidence_N, correct_N = checked(confidence, correct)
    edges = bin_edges(confidence_N, bins, kind)
    numbers = bin_numbers(confidence_N, edges)
    counts = np.bincount(numbers, minlength=bins)
    confidences = np.bincount(numbers, weights=confidence_N, minlength=bins)
    correct_counts = np.bincount(numbers, weights=correct_N, minlength=bins)
    rows = []
    for i in np.flatnonzero(counts).tolist():
        n, share = int(counts[i]), float(correct_counts[i] / counts[i])
        interval = wilson(share, n, NORMAL_95, 0.95)
        rows.append(ReliabilityBin(float(edges[i]), float(edges[i + 1]), n, float(confidences[i] / n), share, interval))
    return tuple(rows)


def brier_each(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Brier score of each answer (Brier 1950).

    For probabilities (N, K) and class numbers (N,): Σ_k (p_k − y_k)², 0…2. For probabilities (N,) of *yes* and
    labels 0/1: (p − y)², 0…1; the two-column form of the same answers gives twice that score.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim == 1:
        p_N, y_N = checked(p, y)
        return (p_N - y_N) ** 2
    labels_N = _labels(p, y)
    rows = np.arange(len(p))
    # Σ_k p_k² − 2·p_y + 1 would lose precision near a perfect answer.
    rest_NK = p.copy()
    rest_NK[rows, labels_N] -= 1.0
    found: Floats = np.einsum("nk,nk->n", rest_NK, rest_NK)
    return found


def nll_each(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> Floats:
    """Negative log-likelihood of the correct class in nats, from logits (N, K) or log probabilities."""
    logits_NK = np.asarray(logits, dtype=np.float64)
    labels_N = _labels(logits_NK, np.asarray(labels))
    scaled_NK = logits_NK / temperature
    found: Floats = scipy.special.logsumexp(scaled_NK, axis=1) - scaled_NK[np.arange(len(labels_N)), labels_N]
    return np.maximum(found, 0.0)


def nll(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Mean of ``nll_each``."""
    return float(nll_each(logits, labels, temperature).mean())


def probabilities(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Softmax over the last axis of logits divided by a temperature."""
    found: Floats = scipy.special.softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1)
    return found


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T > 0 that minimises the NLL of softmax(logits / T) (Guo et al. 2017).

    The NLL is convex in 1/T, so its minimum is where the slope crosses zero, between 0.001 and 1,000 times the standard
    deviation of the logits within a row. Where the slope does not cross zero there (every answer is correct, so that
    colder is always better; or the answers are not better than chance, so that hotter is), the end of the range is
    returned. Fit it on data that no result is reported on.

    Raises:
        InputError: no rows, logits that are not finite, labels that are not classes, or constant logits.
    """
    logits_NK = np.asarray(logits, dtype=np.float64)
    labels_N = _labels(logits_NK, np.asarray(labels))
    spread = float(logits_NK.std(axis=1).mean())
    if spread == 0.0:
        raise InputError(
            "the logits are all the same within every row, so a temperature changes nothing", "check the logits"
        )
    z_NK = (logits_NK - logits_NK.mean(axis=1, keepdims=True)) / spread
    correct_N = z_NK[np.arange(len(labels_N)), labels_N]

    def slope(log_beta: float) -> float:
        p_NK = scipy.special.softmax(np.exp(log_beta) * z_NK, axis=1)
        return float((np.einsum("nk,nk->n", p_NK, z_NK) - correct_N).mean())

    low, high = -np.log(MAX_TEMPERATURE), -np.log(MIN_TEMPERATURE)
    if slope(low) >= 0.0:
        return MAX_TEMPERATURE * spread
    if slope(high) <= 0.0:
        return MIN_TEMPERATURE * spread
    return float(spread / np.exp(scipy.optimize.brentq(slope, low, high, xtol=1e-12, rtol=1e-12)))


def checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64 (N,), checked.

    Raises:
        InputError: different shapes, no answers, or values outside 0…1.
    """
    confidence_N, correct_N = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if confidence_N.ndim != 1 or confidence_N.shape != correct_N.shape or not len(confidence_N):
        shapes = f"{confidence_N.shape} and {correct_N.shape}"
        raise InputError(f"confidence and correct have the shapes {shapes}", "give one of each per answer")
    for name, values in (("confidence", confidence_N), ("correct", correct_N)):
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            at = int(wrong.argmax())
            raise InputError(f"{name} number {at} is {values[at]:g}", "give values in 0…1")
    return confidence_N, correct_N


def _labels(values_NK: Floats, labels: NDArray[np.generic]) -> Ints:
    if values_NK.ndim != 2 or labels.shape != values_NK.shape[:1] or not len(labels):
        raise InputError(
            f"scores of shape {values_NK.shape} do not match labels of shape {labels.shape}",
            "give scores (N, K) and N class numbers",
        )
    if not np.isfinite(values_NK).all():
        at = int((~np.isfinite(values_NK).all(axis=1)).argmax())
        raise InputError(f"row {at} of the scores is not finite", "remove unscored rows")
    numbers = labels.astype(np.int64)
    wrong = (numbers != labels) | (numbers < 0) | (numbers >= values_NK.shape[1])
    if wrong.any():
        at = int(wrong.argmax())
        fix = f"give class numbers 0…{values_NK.shape[1] - 1}"
        raise InputError(f"label number {at} is {labels[at]}, which is not a class", fix)
    return numbers
