"""Out-of-distribution scores against scikit-learn and plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from clerestory.core.errors import ConfigError, InputError
from clerestory.stats import ood
from clerestory.stats.ood import DetectionCurve


def auroc(score: ArrayLike, inside: ArrayLike) -> float:
    return float(DetectionCurve(score, inside).auroc()[0])


# Few distinct scores, so that ties are the rule.
tied = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=80).filter(
    lambda rows: len({inside for _, inside in rows}) == 2
)


def oracle(inside: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> list[float]:
    """The same four numbers by scikit-learn."""
    fpr, tpr, _ = roc_curve(inside, score, drop_intermediate=False, sample_weight=weights)
    return [
        roc_auc_score(inside, score, sample_weight=weights),
        average_precision_score(inside, score, sample_weight=weights),
        average_precision_score(1 - inside, -score, sample_weight=weights),
        fpr[np.argmax(tpr >= 0.95)],
    ]


def ours(inside: np.ndarray, score: np.ndarray) -> list[float]:
    curve = DetectionCurve(score, inside)
    return [float(area()[0]) for area in (curve.auroc, curve.aupr, curve.opposite().aupr, curve.fpr95)]


@given(tied)
@settings(max_examples=150)
def test_tied_scores_equal_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    score = np.array([s for s, _ in rows], dtype=float)
    inside = np.array([i for _, i in rows], dtype=int)
    np.testing.assert_allclose(ours(inside, score), oracle(inside, score), rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_many_scores_equal_scikit_learn(share: float) -> None:
    rng = np.random.default_rng(0)
    inside = (rng.random(20000) < share).astype(int)
    score = rng.normal(inside, 1.0)
    np.testing.assert_allclose(ours(inside, score), oracle(inside, score), rtol=0, atol=1e-12)


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    score, inside = np.array([3.0, 1, 2, 2, 0]), np.array([1, 1, 0, 1, 0])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[inside == 1] for b in score[inside == 0]]
    assert auroc(score, inside) == sum(pairs) / len(pairs)


def test_weights_count_as_copies() -> None:
    rng = np.random.default_rng(1)
    score, inside = rng.integers(0, 9, 60).astype(float), rng.integers(0, 2, 60)
    weights = rng.integers(0, 4, (5, 60)).astype(float)
    curve = DetectionCurve(score, inside)
    found = np.array([m(weights) for m in (curve.auroc, curve.aupr, curve.opposite().aupr, curve.fpr95)])
    for b, row in enumerate(weights):
        copies = np.repeat(np.arange(60), row.astype(int))
        np.testing.assert_allclose(found[:, b], oracle(inside[copies], score[copies]), rtol=0, atol=1e-12)


def test_a_draw_of_one_class_is_not_a_number() -> None:
    curve = DetectionCurve(np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1]))
    for weights in ([[1.0, 0.0, 1.0]], [[0.0, 2.0, 0.0]]):
        for method in (curve.auroc, curve.aupr, curve.opposite().aupr, curve.fpr95):
            assert np.isnan(method(np.array(weights))).all()


def test_every_score_is_higher_for_what_it_knows() -> None:
    rng = np.random.default_rng(2)
    centres = rng.normal(0, 3, (4, 16))
    labels = rng.integers(0, 4, 400)
    train = centres[labels] + rng.normal(0, 1, (400, 16))
    near, far = centres[labels[:100]] + rng.normal(0, 1, (100, 16)), rng.normal(0, 6, (100, 16))
    inside = np.repeat([1, 0], 100)
    features = np.vstack([near, far])
    assert auroc(ood.mahalanobis(features, train, labels), inside) > 0.95
    assert auroc(ood.knn(features, train, metric="l2"), inside) > 0.95
    assert auroc(ood.knn(features, train), inside) > 0.9
    logits = np.vstack([np.eye(4)[labels[:100]] * 6, rng.normal(0, 1, (100, 4))])
    for score in (ood.msp, ood.max_logit, ood.energy, ood.mcm):
        assert auroc(score(logits), inside) > 0.95


def test_scores_are_their_formulas() -> None:
    logits = np.array([[1.0, 2.0, -1.0], [1000.0, 0.0, 0.0]])
    exps = np.exp(logits[0])
    assert ood.msp(logits)[0] == pytest.approx(exps.max() / exps.sum())
    assert ood.max_logit(logits).tolist() == [2.0, 1000.0]
    assert ood.energy(logits)[0] == pytest.approx(math.log(exps.sum()))
    assert ood.energy(logits, 2.0)[0] == pytest.approx(2 * math.log(np.exp(logits[0] / 2).sum()))
    assert ood.mcm(logits, 0.5)[0] == pytest.approx(ood.msp(logits * 2)[0])
    assert np.isfinite(ood.energy(logits)).all()


def test_mahalanobis_is_the_naive_quadratic_form() -> None:
    rng = np.random.default_rng(3)
    train, labels, x = rng.normal(0, 1, (60, 4)), np.array(["a", "b", "c"] * 20), rng.normal(0, 2, (9, 4))
    means = {name: train[labels == name].mean(axis=0) for name in "abc"}
    residuals = np.array([row - means[name] for row, name in zip(train, labels, strict=True)])
    covariance = residuals.T @ residuals / 60
    for shrinkage in (0.0, 0.3):
        shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 4 * np.eye(4)
        inverse = np.linalg.inv(shrunk)
        naive = [-min((row - m) @ inverse @ (row - m) for m in means.values()) for row in x]
        np.testing.assert_allclose(ood.mahalanobis(x, train, labels, shrinkage), naive, rtol=1e-9)
    assert ood.ledoit_wolf(residuals) == pytest.approx(sklearn_ledoit_wolf(residuals, assume_centered=True)[1])


def test_more_features_than_samples_stay_finite() -> None:
    rng = np.random.default_rng(4)
    train = rng.normal(0, 1, (10, 50))
    assert np.isfinite(ood.mahalanobis(rng.normal(0, 1, (5, 50)), train, np.arange(10) % 2)).all()
    with pytest.raises(InputError, match="cannot be inverted"):
        ood.mahalanobis(rng.normal(0, 1, (5, 50)), np.hstack([train[:, :49], np.zeros((10, 1))]), [0] * 10, 0.0)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_knn_equals_scikit_learn_in_any_blocks(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    train, x = rng.normal(0, 1, (80, 6)), rng.normal(0, 1, (33, 6))
    finder = NearestNeighbors(n_neighbors=7, metric=metric).fit(train)
    theirs = -finder.kneighbors(x)[0][:, 6]
    np.testing.assert_allclose(ood.knn(x, train, 7, metric), theirs, atol=1e-9)  # type: ignore[arg-type]  # a parameter
    monkeypatch.setattr(ood, "BLOCK", 100)
    np.testing.assert_allclose(ood.knn(x, train, 7, metric), theirs, atol=1e-9)  # type: ignore[arg-type]  # a parameter


def test_what_cannot_be_told_apart_says_so() -> None:
    with pytest.raises(InputError, match="all 3 samples are in-distribution"):
        auroc([1, 2, 3], [1, 1, 1])
    with pytest.raises(InputError, match="all 2 samples are out-of-distribution"):
        auroc([1, 2], [0, 0])
    with pytest.raises(InputError, match="finite"):
        auroc([1, math.nan], [0, 1])
    with pytest.raises(InputError, match="other than 0 and 1"):
        auroc([1, 2], [0, 2])
    with pytest.raises(InputError, match="row 1 of the features is not finite"):
        ood.knn([[1.0], [math.nan]], [[1.0]], 1)
    with pytest.raises(InputError, match="no direction"):
        ood.knn([[0.0, 0.0]], [[1.0, 0.0]], 1)
    with pytest.raises(InputError, match="2 and 1 columns"):
        ood.knn([[0.0, 1.0]], [[1.0]], 1)
    with pytest.raises(ConfigError, match="k = 3 is not in 1…1"):
        ood.knn([[1.0]], [[1.0]], 3)
    with pytest.raises(ConfigError, match="shrinkage"):
        ood.mahalanobis([[1.0]], [[1.0], [2.0]], [0, 0], 2.0)
    with pytest.raises(InputError, match="are constant within every class"):
        ood.mahalanobis([[1.0]], [[1.0], [2.0]], [0, 1])
