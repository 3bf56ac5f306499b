"""Corruptions, perturbed captions, fairness and captioning on data whose answers are known."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image
from tests.stages.evaluate.test_classification import find
from tests.support.attribute_squares import (
    COLOURS,
    SHAPES,
    CaptionOnlyModel,
    ShapeModel,
    attribute_data,
    make_context,
    rows_where,
)
from tests.support.colour_tiles import ColourModel, tiles
from tests.support.oracles import mce

from clerestory.core.codec import Tags
from clerestory.core.rows import TEXT_PERTURBATIONS, Condition, Unscored
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data.corruptions import NAMES, corrupt
from clerestory.models import open_model
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.suite import NotApplicable
from clerestory.stages.evaluate.suites import captioning, fairness, retrieval, text_perturbation
from clerestory.stages.evaluate.suites import corruption as corruptions
from clerestory.stages.evaluate.suites.corruption import corrupted_embeddings
from clerestory.stages.evaluate.suites.corruption.corrupted_embeddings import (
    MAX_SIDE,
    CoarseColours,
    CorruptedEmbeddings,
    nearest_class,
)
from clerestory.stages.evaluate.suites.text_perturbation import perturb, synonyms_of
from clerestory.stats.aggregate import recompute
from clerestory.stats.captions import CiderD
from clerestory.stats.rows import read_rows
from clerestory.store import Store, open_store

REAL = ("retrieval", "text_perturbation", "corruption", "fairness", "classification", "calibration", "ood")


@pytest.fixture(scope="module")
def under(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationContext, object]:
    """A model that knows nothing but exact drawings, under every corruption."""
    store = open_store(tmp_path_factory.mktemp("corrupt") / "home")
    made = make_context(ShapeModel(fragile=True), store, corruption_samples=12)
    return made, corruptions.run(made)


def test_a_fragile_model_falls_to_the_share_of_the_class_it_falls_back_on(under: tuple) -> None:
    _, found = under
    keep = rows_where(found.rows, task="zero_shot", condition="gaussian_noise", severity="3")
    red = np.mean(found.rows["target"][keep] == "red")
    assert set(found.rows["answer"][keep]) == {"red"}
    where = {"task": "zero_shot", "split": "test", "condition": "gaussian_noise"}
    assert find(found, "accuracy", **where, severity="3").value == red
    assert find(found, "accuracy", **where).value == red, "the mean over severities"
    assert find(found, "accuracy", **where).n == 60
    base = rows_where(found.rows, task="corruption_base")
    assert found.rows["score"][base].mean() == 1, "clean, it is right"


def test_every_condition_is_measured_on_the_same_pictures(under: tuple) -> None:
    _, found = under
    keep = rows_where(found.rows, task="zero_shot")
    conditions = set(zip(found.rows["condition"][keep], found.rows["severity"][keep], strict=True))
    assert len(conditions) == 95
    samples = {tuple(found.rows["sample"][keep & (found.rows["condition"] == name)][:12]) for name in NAMES}
    assert len(samples) == 1
    assert len(set(found.rows["image"][keep])) == 95 * 12, "every picture has a digest of its own"
    assert Condition.CLEAN not in set(found.rows["condition"][keep]), "clean answers are those of classification"


def test_corruption_errors_follow_from_the_rows(under: tuple) -> None:
    _, found = under
    rows, where = found.rows, {"task": "zero_shot", "split": "test"}
    keep = rows_where(rows, task="zero_shot")
    assert find(found, "robust_accuracy", **where).value == pytest.approx(rows["score"][keep].mean())

    def errors(column: str) -> dict[str, list[float]]:
        return {
            name: [
                1 - rows[column][keep & rows_where(rows, condition=name, severity=str(s))].mean() for s in range(1, 6)
            ]
            for name in NAMES
        }

    told = [m for m in found.measurements if m.name == "mce"]
    if told:
        assert told[0].value == pytest.approx(mce(errors("score"), errors("reference")))
    else:
        assert any("mce" in f.where and f.code == "CLR-E023" for f in found.findings)
    for measurement in found.measurements:
        assert recompute(rows, measurement) == measurement
    assert len({m.key for m in found.measurements}) == len(found.measurements)


def test_a_second_run_corrupts_and_asks_nothing_again(under: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    first, found = under
    seen = first.model.images_seen
    again = EvaluationContext(first.model, first.data, first.config, first.store)
    monkeypatch.setattr("clerestory.stages.evaluate.suites.corruption.corrupted_embeddings.corrupt", None)
    second = corruptions.run(again)
    assert first.model.images_seen == seen
    assert all((second.rows[name].astype(str) == found.rows[name].astype(str)).all() for name in found.rows)


def test_a_corrupted_picture_is_what_the_corruption_makes_of_it_and_known_by_what_went_in(store: Store) -> None:
    made = make_context(ShapeModel(), store)
    sample = made.splits["test"].samples[3]
    degraded = CorruptedEmbeddings(made, [sample])
    clean = np.asarray(made.read_image(sample))
    spy = []

    class Spy(CoarseColours):
        digest = "spy"

        def embed_images(self, images: list, dim: int | None = None) -> np.ndarray:
            spy.extend(np.asarray(image) for image in images)
            return super().embed_images(images, dim)

    degraded.embed([Spy()], "fog", 2)
    assert (spy[0] == corrupt(clean, "fog", 2, sample.image)).all()
    keys = {degraded.keys(name, severity)[0] for name in ("fog", "frost") for severity in (1, 2)}
    assert len(keys) == 4
    changed = CorruptedEmbeddings(made, [dataclasses.replace(sample, image="0" * 64)])
    assert changed.keys("fog", 2) != degraded.keys("fog", 2)


def test_large_images_are_reduced_before_they_are_corrupted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_context(ShapeModel(), store)
    sizes = []
    monkeypatch.setattr(made, "read_image", lambda sample: Image.new("RGB", (3000, 1500), "olive"))
    monkeypatch.setattr(corrupted_embeddings, "corrupt", lambda image, *_: sizes.append(image.shape) or image)
    CorruptedEmbeddings(made, made.splits["test"].samples[:1]).embed([CoarseColours()], "fog", 2)
    assert sizes == [(MAX_SIDE // 2, MAX_SIDE, 3)]


def test_the_baseline_is_the_nearest_mean_colour() -> None:
    baseline = CoarseColours()
    images = [Image.new("RGB", (40, 40), colour) for colour in COLOURS.values()]
    rows = baseline.embed_images(images)
    means = rows.astype(np.float64)
    means[1] = np.nan
    assert nearest_class(rows, means).tolist()[0] == 0
    assert nearest_class(rows, means).tolist()[2:] == [2, 3, 4]


def test_pictures_too_small_are_unscored_and_no_pictures_is_not_applicable(store: Store) -> None:
    found = corruptions.run(make_context(ColourModel(), store, tiles(), corruption_samples=3))
    keep = rows_where(found.rows, condition="fog")
    assert set(found.rows["unscored"][keep]) == {"image_too_small"}
    assert np.isnan(found.rows["rank"][keep]).all()
    with pytest.raises(NotApplicable):
        corruptions.run(make_context(ShapeModel(), store, corruption_samples=0))


def test_a_model_that_reads_lower_case_only_loses_everything_to_capitals(store: Store) -> None:
    found = text_perturbation.run(make_context(ShapeModel(), store))
    where = {"task": "text_to_image", "split": "test"}
    assert find(found, "recall@10", **where, condition="upper_case").value == 0
    assert find(found, "recall@10_loss", **where, condition="upper_case").value == 1
    for kind in ("lower_case", "word_order"):
        assert find(found, "recall@10", **where, condition=kind).value == 1
        assert find(found, "recall@10_loss", **where, condition=kind).value == 0
    for measurement in found.measurements:
        assert recompute(found.rows, measurement) == measurement
    keep = rows_where(found.rows, condition="synonyms")
    assert set(found.rows["query"][keep]) <= {"balllike", "boxlike"} | {
        f"{word}, {shape}like" for word in found.rows["target"] for shape in SHAPES
    } | {f"{shape}like, {word}" for word in found.rows["target"] for shape in SHAPES}


@pytest.mark.parametrize("kind", TEXT_PERTURBATIONS)
def test_a_changed_caption_depends_on_seed_caption_and_kind_alone(kind: Condition) -> None:
    text, other = "smiling face with open hands", ["grin", "hug", "welcome"]
    assert perturb(text, kind, 3, other) == perturb(text, kind, 3, other)
    made = perturb(text, kind, 3, other)[0]
    assert made
    if kind == "word_order":
        assert sorted(made.split()) == sorted(text.split())
        assert made != text
    if kind == "typos":
        assert made != text
        assert len(made.split()) == 5
        assert [word[0] for word in made.split()] == [word[0] for word in text.split()]
        assert len({perturb(text, kind, seed)[0] for seed in range(9)}) > 3
    if kind == "synonyms":
        assert set(made.split(", ")) <= set(other)


def test_what_cannot_be_changed_says_why() -> None:
    assert perturb("violin", Condition.WORD_ORDER, 0) == ("", Unscored.ONE_WORD_ORDER)
    assert perturb("violin", Condition.SYNONYMS, 0) == ("", Unscored.NO_SYNONYM)
    assert perturb("a to be", Condition.TYPOS, 0) == ("", Unscored.NO_LONG_WORD)
    about = [Sample("a", "0", (Caption("red heart"), Caption("heart", "en", "keyword"), Caption("Herz", "de"),
                               Caption("love", "en-GB", "keyword")))]  # fmt: skip
    assert synonyms_of("red heart", about, "en") == ["love"]


def test_a_model_that_mistakes_men_is_told_by_every_measure_of_bias(store: Store) -> None:
    found = fairness.run(make_context(ShapeModel(biased=True), store, min_group_concepts=5))
    where = {"task": "zero_shot", "split": "test", "group": "gender"}
    assert find(found, "accuracy", **where, value="man").value == 0
    assert find(found, "accuracy", **where, value="woman").value == 1
    assert find(found, "worst_group", **where).value == 0
    assert find(found, "largest_gap", **where).value == 1
    assert find(found, "equalised_odds", **where).value == 1
    tones = {**where, "group": "skin_tone"}
    assert find(found, "accuracy", **tones, value="dark").value == 0.5, "variants count"
    # Eight women and eight men of each concept, and the neutral query finds all women first.
    assert find(found, "max_skew@10", task="neutral_search", group="gender").value == pytest.approx(math.log(1.6))
    assert find(found, "ndkl", task="neutral_search", group="gender").value > found.facts["chance.ndkl.gender"]
    queries = found.rows["query"][rows_where(found.rows, task="neutral_search", target="gender")]
    assert set(queries) == {f"{colour} {shape}" for colour in COLOURS for shape in ("ball", "box")}
    for measurement in found.measurements:
        assert recompute(found.rows, measurement) == measurement
    assert len({m.key for m in found.measurements}) == len(found.measurements)


def test_a_fair_model_has_no_gap(store: Store) -> None:
    found = fairness.run(make_context(ShapeModel(), store, min_group_concepts=5))
    where = {"task": "zero_shot", "split": "test", "group": "gender"}
    assert find(found, "largest_gap", **where).value == 0
    assert find(found, "equalised_odds", **where).value == 0
    assert not any(m.slice.get("group") == "category" for m in found.measurements), "the label is no group"


def test_a_group_with_two_members_is_named_and_not_measured(store: Store) -> None:
    data = attribute_data()
    chosen = [s for s in data if s.split == "test" and s.groups["gender"] == "none"][:2]
    rare = [dataclasses.replace(s, id=f"{s.id}-rare", groups=Tags({**s.groups, "gender": "nonbinary"})) for s in chosen]
    found = fairness.run(make_context(ShapeModel(), store, Dataset("rare", [*data, *rare], data.read)))
    note = next(f for f in found.findings if "value=nonbinary" in f.where)
    assert note.code == "CLR-E022"
    assert "below the minimum of 10" in note.message
    assert (note.count, note.details["minimum"]) == (2, 10)
    assert "min_group_concepts" in note.fix
    assert not any(m.slice.get("value") == "nonbinary" for m in found.measurements)
    kept = rows_where(found.rows, task="group_accuracy", operation="gender") & (found.rows["gender"] == "nonbinary")
    assert kept.sum() == len(rare), "its rows are there all the same"


def test_descriptions_are_scored_by_caption_and_by_picture(store: Store) -> None:
    class Speaking(ShapeModel):
        caption_images = CaptionOnlyModel.caption_images
        _encoder = ShapeModel()
        described = 0

    made = make_context(Speaking(), store, caption_samples=6, splits=("test",))
    found = captioning.run(made)
    keep = rows_where(found.rows, task="caption")
    assert keep.sum() == 6
    corpus = CiderD([[s.caption] for s in made.splits["test"]])
    for answer, query, score in zip(*(found.rows[n][keep] for n in ("answer", "query", "cider")), strict=True):
        assert score == pytest.approx(corpus.score(answer, [query]))
    assert np.allclose(found.rows["clip_score"][keep], 2.5, atol=1e-5), "it says exactly what it sees"
    assert found.rows["chrf"][keep].mean() > 0.5


def test_a_describer_that_embeds_nothing_is_measured_and_not_asked_twice(store: Store) -> None:
    model = CaptionOnlyModel()
    config = EvaluateConfig(caption_samples=5, splits=("test",), suites=("captioning",))
    evidence = evaluate(model, attribute_data(), config, store)
    assert evidence.find("chrf", {"task": "caption", "split": "test"}) is not None
    assert evidence.find("clip_score", {"task": "caption", "split": "test"}) is None
    assert model.described == 5
    captioning.run(EvaluationContext(model, attribute_data(), config, store))
    assert model.described == 5
    captioning.run(EvaluationContext(model, attribute_data(), dataclasses.replace(config, caption_samples=7), store))
    assert model.described == 7


def test_retrieval_has_average_precision(store: Store) -> None:
    found = retrieval.run(make_context(ShapeModel(), store))
    clean = rows_where(found.rows, task="image_to_text")
    rank = found.rows["rank"][clean]
    assert np.allclose(found.rows["precision"][clean], 1 / rank), "one right caption: precision is that at its rank"
    assert find(found, "map", task="image_to_text", split="test").value == pytest.approx(
        float(np.mean(1 / rank)), rel=0.5
    )


def test_a_real_model_on_real_pictures(tiny_model: str, few_icons: Dataset, store: Store) -> None:
    config = EvaluateConfig(corruption_samples=2, min_group_concepts=5, suites=REAL)
    evidence = evaluate(open_model(tiny_model), few_icons, config, store)
    assert {f.code for f in evidence.findings} & {"CLR-E023", "CLR-E022", "CLR-E006"}
    assert sum(m.name == "recall@10" for m in evidence.measurements) >= 5 + 95 + 19
    keys = [m.key for m in evidence.measurements]
    assert len(keys) == len(set(keys))
    rows = read_rows(store.blobs.get(evidence.rows))
    for measurement in evidence.measurements:
        if measurement.recipe is not None:
            # Rows of one suite are not mistaken for those of another when they are joined.
            assert recompute(rows, measurement) == measurement
