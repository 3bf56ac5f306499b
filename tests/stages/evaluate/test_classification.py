"""Classification, calibration and out-of-distribution detection on data whose answers are known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from tests.support.attribute_squares import COLOURS, ShapeModel, attribute_data, make_context, rows_where

from clerestory.core.codec import Tags
from clerestory.core.errors import NotFound
from clerestory.core.evidence import Measurement
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.stages.evaluate import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import join_rows
from clerestory.stages.evaluate.shared.class_prompts import Classes, class_embeddings, find_classes
from clerestory.stages.evaluate.suite import NotApplicable, SuiteResult
from clerestory.stages.evaluate.suites import calibration, classification, ood
from clerestory.stats.aggregate import recompute
from clerestory.stats.linear_probe import fit_linear_probe, knn_logits
from clerestory.store import Store


def find(found: SuiteResult, name: str, **slice_: str) -> Measurement:
    return next(m for m in found.measurements if m.name == name and dict(m.slice) == slice_)


def test_a_perfect_model_is_accurate_and_as_confident_as_its_scale(store: Store) -> None:
    context = make_context(ShapeModel(logit_scale=4.0), store, label_field="category")
    classified, found = classification.run(context), calibration.run(context)
    assert find(classified, "accuracy", task="zero_shot", split="test").value == 1
    right = math.exp(4 / math.sqrt(2))
    sure = right / (right + len(COLOURS) - 1)
    assert find(found, "ece", task="zero_shot", split="test").value == pytest.approx(1 - sure, abs=1e-6)
    assert find(found, "ece_mass", task="zero_shot", split="test").value == pytest.approx(1 - sure, abs=1e-6)
    assert find(found, "nll", task="zero_shot", split="test").value == pytest.approx(-math.log(sure), abs=1e-6)
    brier = (1 - sure) ** 2 + (len(COLOURS) - 1) * ((1 - sure) / (len(COLOURS) - 1)) ** 2
    assert find(found, "brier", task="zero_shot", split="test").value == pytest.approx(brier, abs=1e-6)
    # Always right, so the coldest temperature is the best and takes the error away.
    assert find(found, "temperature", task="zero_shot").value < 0.1
    assert find(found, "ece", task="zero_shot", split="test", scaled="yes").value < 1e-6
    for task in ("knn", "linear_probe"):
        assert find(classified, "accuracy", task=task, split="test").value == 1


def test_a_shift_that_fools_the_model_is_the_gap(store: Store) -> None:
    found = classification.run(make_context(ShapeModel(dusk=True), store))
    assert find(found, "accuracy", task="zero_shot", split="test").value == 1
    assert find(found, "accuracy", task="zero_shot", split="test_style").value == 0
    gap = find(found, "shift_gap", task="zero_shot")
    assert (gap.value, gap.direction) == (1, "lower")


def test_rows_have_targets_answers_and_scores(store: Store) -> None:
    found = classification.run(make_context(ShapeModel(dusk=True), store))
    keep = rows_where(found.rows, task="zero_shot", split="test_style")
    names = sorted(COLOURS)
    for target, answer, score in zip(*(found.rows[n][keep] for n in ("target", "answer", "score")), strict=True):
        colours = list(COLOURS)
        assert answer == colours[(colours.index(target) + 1) % 5]
        assert score == 0
    assert set(found.rows["chance"][keep]) == {1 / len(names)}


def test_every_number_follows_from_the_rows_and_no_two_share_a_key(store: Store) -> None:
    context = make_context(ShapeModel(dusk=True), store, min_slice_concepts=3)
    classified, calibrated = classification.run(context), calibration.run(context)
    keys = [m.key for result in (classified, calibrated) for m in result.measurements]
    assert len(keys) == len(set(keys))
    assert any(m.slice.get("style") for m in classified.measurements)
    rows = join_rows([classified.rows, calibrated.rows])
    for measurement in classified.measurements + calibrated.measurements:
        if measurement.recipe is not None:
            assert recompute(rows, measurement) == measurement
        else:
            assert measurement.name == "temperature"


def test_the_classifiers_are_fitted_once_for_all_suites(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(ShapeModel(), store)
    classification.run(context)
    monkeypatch.setattr("clerestory.stages.evaluate.shared.classifiers.select_linear_probe", None)
    assert calibration.run(context).measurements


def test_the_diagram_counts_every_scored_image(store: Store) -> None:
    found = calibration.run(make_context(ShapeModel(), store))
    diagrams = json.loads(found.artifacts["reliability"])
    assert {(one["task"], one["scaled"]) for one in diagrams} >= {("zero_shot", "no"), ("zero_shot", "yes")}
    for one in diagrams:
        n = rows_where(found.rows, task="calibration", operation=one["task"], split=one["split"]).sum()
        assert sum(each["n"] for each in one["bins"]) == n
        assert all(each["interval"][0] <= each["accuracy"] <= each["interval"][1] for each in one["bins"])


def test_without_splits_nothing_is_trained_and_findings_say_so(store: Store) -> None:
    context = make_context(ShapeModel(), store, attribute_data(splits=False))
    classified, calibrated = classification.run(context), calibration.run(context)
    assert {m.slice["task"] for m in classified.measurements + calibrated.measurements} == {"zero_shot"}
    assert {f.code for f in classified.findings} == {"CLR-E020"}
    assert {f.code for f in calibrated.findings} == {"CLR-E021"}
    assert not any(m.slice.get("scaled") for m in calibrated.measurements)


def test_a_label_that_is_not_there_is_named_with_the_nearest(store: Store) -> None:
    with pytest.raises(NotFound, match="categry") as error:
        find_classes(make_context(ShapeModel(), store, label_field="categry"))
    assert "category" in str(error.value)


def test_a_label_that_names_nothing_is_unscored(store: Store) -> None:
    data = attribute_data()
    changed = [s for s in data if s.groups["category"] != "blue"]
    other = [s for s in data if s.groups["category"] == "blue"]
    other = [replace(s, groups=Tags({**s.groups, "category": "other"})) for s in other]
    found = classification.run(make_context(ShapeModel(), store, Dataset("shapes", changed + other, data.read)))
    keep = rows_where(found.rows, task="zero_shot") & (found.rows["target"] == "")
    assert keep.any()
    assert np.isnan(found.rows["score"][keep]).all()
    assert set(found.rows["unscored"][keep]) == {"unknown_label"}


def test_prompts_are_averaged_and_made_unit_rows(store: Store) -> None:
    rows = class_embeddings(make_context(ShapeModel(), store), Classes("category", ("red", "blue")))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert rows[0, 0] > 0.9
    assert Classes("emoji_group", ()).description("food-drink") == "food and drink"


def test_the_probe_is_scikit_learns(store: Store) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=300)
    x = rng.normal(size=(300, 6)) + 0.8 * np.eye(4, 6)[labels]
    ours = fit_linear_probe(x, labels, 4, 1e-2).logits(x)
    theirs = LogisticRegression(C=1 / (1e-2 * 300), tol=1e-9, max_iter=2000).fit(x, labels).predict_proba(x)
    p = np.exp(ours - ours.max(axis=1, keepdims=True))
    assert np.abs(p / p.sum(axis=1, keepdims=True) - theirs).max() < 2e-3


def test_neighbours_vote_like_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    train, x = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (rng.normal(size=(n, 5)) for n in (80, 40))
    )
    labels = rng.integers(3, size=80)

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / 0.07)

    theirs = KNeighborsClassifier(20, weights=weights, metric="cosine").fit(train, labels).predict_proba(x)
    shares = np.exp(knn_logits(x, train, labels, 3))
    assert np.abs(shares * (1 + 3 * 1e-3) - 1e-3 - theirs).max() < 1e-9


def test_a_perfect_model_detects_the_held_out_classes(store: Store) -> None:
    found = ood.run(make_context(ShapeModel(), store))
    for score in ("mcm", "knn", "msp", "max_logit"):
        assert find(found, "ood_auroc", task="ood", score=score).value == 1
        assert find(found, "ood_fpr95", task="ood", score=score).value == 0
        assert find(found, "ood_aupr_out", task="ood", score=score).value == pytest.approx(1)
    inside = set(found.rows["target"][found.rows["in_distribution"] == 1])
    outside = set(found.rows["target"][found.rows["in_distribution"] == 0])
    assert (len(inside), len(outside)) == (4, 1)
    assert set(found.facts["ood.out_of_distribution"]) == outside
    assert set(found.facts["ood.in_distribution"]) == inside
    assert (found.facts["ood.in_distribution_count"], found.facts["ood.logits"]) == (4, "linear_probe")
    for measurement in found.measurements:
        assert recompute(found.rows, measurement) == measurement


def test_a_constant_model_detects_nothing(store: Store) -> None:
    found = ood.run(make_context(ShapeModel(constant=True), store))
    for score in ("mcm", "knn", "energy"):
        assert find(found, "ood_auroc", task="ood", score=score).value == 0.5
    assert any("mahalanobis" in f.where for f in found.findings), "it cannot be computed, and that is said"


def test_other_seeds_hold_out_other_classes_and_two_classes_are_too_few() -> None:
    classes = Classes("category", tuple("abcdefghij"))
    assert len({ood.known_classes(classes, seed).names for seed in range(8)}) > 3
    assert all(len(ood.known_classes(classes, seed).names) == 7 for seed in range(8))
    with pytest.raises(NotApplicable, match="takes at least 3 classes"):
        ood.known_classes(Classes("category", ("a", "b")), 0)


def test_a_real_model_on_real_images(tiny_model: str, few_icons: Dataset, store: Store) -> None:
    real = EvaluationContext(open_model(tiny_model), few_icons, EvaluateConfig(min_slice_concepts=5), store)
    found = classification.run(real)
    assert {m.slice["task"] for m in found.measurements} == {"zero_shot", "knn", "linear_probe"}
    assert find(found, "accuracy", task="linear_probe", split="test").value > 0.1
    assert len(ood.run(real).measurements) == 24
