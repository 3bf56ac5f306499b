"""Wrong labels, by confident learning (Northcutt, Jiang and Chuang, 2021, arXiv:1911.00068).

It needs the probabilities of a classifier that was not trained on the sample itself (out-of-fold). A sample is counted
in the class whose probability is above the mean of that class's own samples, so a class of which the classifier is
rarely sure is not suspected as a whole. The off-diagonal counts estimate how many labels of each class are wrong; that
many are returned, those of which the classifier gives the recorded class the lowest probability. cleanlab's default
finds no more in the project's benchmark of captions and labels, so the library is not needed.

Shapes: N samples, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import InputError

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
TOLERANCE = 1e-3  # of the sum of a row


def check_labels(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """The positions of samples whose label is probably wrong, worst first.

    Args:
        labels: (N,) the recorded class of each sample, from 0 on.
        probabilities: (N, C) of each class, by a classifier that was trained without the sample.

    Raises:
        InputError: the shapes do not fit, a label is not a class, or a row is not a distribution.
    """
    labels, probabilities = _checked(labels, probabilities)
    if not len(labels):
        return np.empty(0, dtype=np.int64)
    joint = confident_joint(labels, probabilities)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    # The share of each row of the joint, on the scale of the samples that have the label.
    estimated = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1) * counts[:, None]
    confidence = self_confidence(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    wrong = np.zeros(len(labels), dtype=bool)
    for label in np.flatnonzero(counts > 1):
        number = round(float(estimated[label].sum() - estimated[label, label]))
        own = np.flatnonzero((labels == label) & (predicted != label))
        wrong[own[np.argsort(confidence[own], kind="stable")[:number]]] = True
    found = np.flatnonzero(wrong)
    return found[np.argsort(confidence[found], kind="stable")]


def self_confidence(labels: Labels, probabilities: Probabilities) -> Probabilities:
    """(N,) the probability of the recorded class, which ranks wrong labels better than the margin to the next one."""
    return np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]


def confident_joint(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """(C, C) samples by recorded class and by the class of which the classifier is confident."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = np.bincount(labels, weights=self_confidence(labels, probabilities), minlength=classes)
    thresholds = np.where(counts > 0, own / np.maximum(counts, 1), np.inf)
    confident = probabilities >= thresholds - 1e-12  # (N, C)
    rows = np.flatnonzero(confident.any(axis=1))
    best = np.where(confident[rows], probabilities[rows], -1).argmax(axis=1)
    joint = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(joint, (labels[rows], best), 1)
    return joint


def _checked(labels: Labels, probabilities: Probabilities) -> tuple[Labels, Probabilities]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise InputError(
            f"{labels.shape} labels and {probabilities.shape} probabilities do not fit together",
            "pass one label and one row of probabilities for each sample",
        )
    if len(labels) and not (labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < probabilities.shape[1]):
        raise InputError("a label is not the number of a class", "number the classes from 0 on")
    is_distribution = np.isfinite(probabilities).all(axis=1) & (probabilities >= 0).all(axis=1)
    is_distribution &= np.abs(probabilities.sum(axis=1) - 1) <= TOLERANCE
    if not is_distribution.all():
        raise InputError(
            f"row {int(np.argmin(is_distribution))} of the probabilities is not a distribution",
            "pass probabilities from 0 to 1 that sum to 1 in each row",
        )
    return labels.astype(np.int64), probabilities
