"""Wrong labels by confident learning."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from clerestory.core.errors import InputError
from clerestory.stages.audit.label_check import check_labels, confident_joint, self_confidence


def planted(features: np.ndarray, truth: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is wrong, and out-of-fold probabilities of a classifier that was trained with them."""
    rng = np.random.default_rng(seed)
    labels = truth.copy()
    wrong = rng.choice(len(truth), int(share * len(truth)), replace=False)
    classes = int(truth.max()) + 1
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    model = LogisticRegression(max_iter=200, C=0.3)
    return labels, cross_val_predict(model, features, labels, cv=5, method="predict_proba")


@pytest.mark.parametrize("seed", [0, 1])
def test_five_per_cent_of_wrong_labels_are_the_first_hundred(seed: int) -> None:
    features, truth = make_classification(
        2000, 20, n_informative=12, n_redundant=0, n_classes=6, n_clusters_per_class=1, class_sep=2.2, flip_y=0,
        weights=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1], random_state=seed,
    )  # fmt: skip
    labels, probabilities = planted(features, truth, 0.05, seed)
    found = check_labels(labels, probabilities)
    wrong = labels != truth
    assert wrong[found[:100]].mean() >= 0.8
    assert wrong[found].sum() >= 0.9 * wrong.sum()


def test_images_of_digits() -> None:
    features, truth = load_digits(return_X_y=True)
    labels, probabilities = planted(features / 16, truth, 0.05, 1)
    found, wrong = check_labels(labels, probabilities), labels != truth
    assert wrong[found[: wrong.sum()]].mean() >= 0.75  # of these drawings, 7 % are hard for the classifier itself
    clean = check_labels(
        truth, cross_val_predict(LogisticRegression(max_iter=200), features / 16, truth, cv=5, method="predict_proba")
    )
    assert len(clean) < 0.06 * len(truth)


def test_a_class_of_which_the_classifier_is_never_sure_is_not_suspected() -> None:
    labels = np.array([0] * 50 + [1] * 50)
    probabilities = np.where(labels[:, None] == [0, 1], [[0.9, 0.4]], [[0.6, 0.1]])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert (probabilities[50:].argmax(axis=1) == 0).all()  # all of them are predicted as the other class
    assert len(check_labels(labels, probabilities)) == 0


def test_the_joint_counts_by_the_thresholds_of_the_classes() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    # Thresholds: 0.6 and 0.75. The fourth sample is above neither.
    assert confident_joint(labels, probabilities).tolist() == [[2, 1], [0, 1]]
    assert check_labels(labels, probabilities).tolist() == [2]
    assert self_confidence(labels, probabilities).tolist() == [0.9, 0.8, 0.1, 0.7, 0.8]


def test_edge_cases_and_bad_input() -> None:
    empty = np.empty(0, dtype=np.int64)
    assert len(check_labels(empty, np.empty((0, 3)))) == 0
    assert len(check_labels(np.zeros(5, dtype=np.int64), np.ones((5, 1)))) == 0
    assert len(check_labels(np.array([0, 1]), np.full((2, 4), 0.25))) == 0  # classes without a sample
    for labels, probabilities in (
        (np.zeros(3, dtype=np.int64), np.full((2, 2), 0.5)),
        (np.array([0, 2]), np.full((2, 2), 0.5)),
        (np.array([0, -1]), np.full((2, 2), 0.5)),
        (np.array([0.5, 1]), np.full((2, 2), 0.5)),
        (np.array([0, 1]), np.array([[0.5, 0.5], [0.9, 0.9]])),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 1]])),
    ):
        with pytest.raises(InputError) as error:
            check_labels(labels, probabilities)
        assert error.value.fix
