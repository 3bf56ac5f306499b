"""The evaluate stage on coloured tiles, whose right answers can be worked out by hand."""

import dataclasses
import hashlib
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.colour_tiles import COLOURS, ColourModel, EmbedderOnly, tiles
from tests.support.task_files import IncapableModel

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, ConfigError, DataError, NotFound
from clerestory.core.evidence import Evidence
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.models import open_model
from clerestory.stages.evaluate import EvaluateConfig, embed_dataset, evaluate, freshness
from clerestory.stages.evaluate.run import unscored_findings
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.stats.text import chrf
from clerestory.store import Store, open_store

QUICK = EvaluateConfig(
    caption_samples=10,
    latency_samples=80,
    load_seconds=0,
    warm_up_requests=2,
    min_slice_concepts=10,
    suites=("retrieval", "captioning", "latency"),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("evaluate") / "home")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return tiles(broken=["plain/tan"])


@pytest.fixture(scope="module")
def evidence(shared: Store, data: Dataset) -> Evidence:
    return evaluate(ColourModel(), data, QUICK, shared)


@pytest.fixture(scope="module")
def rows(shared: Store, evidence: Evidence) -> dict[str, np.ndarray]:
    return read_rows(shared.blobs.get(evidence.rows))


def picked(rows: dict[str, np.ndarray], **where: str) -> dict[str, np.ndarray]:
    keep = np.ones(len(rows["task"]), dtype=bool)
    for name, value in where.items():
        keep &= rows[name] == value
    return {name: column[keep] for name, column in rows.items()}


def colour_of(caption: str) -> str:
    return caption.lower().split()[0]


@pytest.mark.parametrize("split", ["test", "test_style"])
def test_image_to_text_ranks_equal_a_loop_over_single_requests(
    split: str, data: Dataset, rows: dict[str, np.ndarray]
) -> None:
    model = ColourModel()
    ours = picked(rows, task="image_to_text", split=split)
    colours = sorted({s.concept for s in data if s.split == split and s.concept in COLOURS} - {"rot"})
    texts = model.embed_texts([f"{colour} tile" for colour in colours])
    assert "plain/tan" in ours["sample"] or split == "test_style"
    for sample_id, rank in zip(ours["sample"], ours["rank"], strict=True):
        sample = data[sample_id]
        if np.isnan(rank):
            assert sample_id in ("plain/tan", "plain/zz-deutsch")
            continue
        scores = texts @ model.embed_images([decode_image(data.read(sample))])[0]
        own = scores[colours.index(sample.concept)]
        others = np.delete(scores, colours.index(sample.concept))
        assert rank == 1 + (others >= own - 1e-6).sum()


def test_text_to_image_takes_the_best_of_a_captions_pictures(data: Dataset, rows: dict[str, np.ndarray]) -> None:
    model = ColourModel()
    ours = picked(rows, task="text_to_image", split="test")
    pool = [s for s in data if s.split == "test" and s.groups["skin_tone"] == "none"]
    pool = [s for s in pool if s.id not in ("plain/tan", "plain/zz-deutsch")]
    pictures = model.embed_images([decode_image(data.read(sample)) for sample in pool])
    assert sorted(map(colour_of, ours["query"])) == sorted(COLOURS), "captions equal but for case and spaces are one"
    for query, rank, relevant, best in zip(*(ours[n] for n in ("query", "rank", "relevant", "sample")), strict=True):
        scores = pictures @ model.embed_texts([query])[0]
        right = np.array([sample.concept == colour_of(query) for sample in pool])
        assert rank == 1 + (scores[~right] >= scores[right].max() - 1e-6).sum()
        assert relevant == right.sum()
        assert data[best].concept == colour_of(query)
        assert scores[[sample.id for sample in pool].index(best)] == pytest.approx(scores[right].max(), abs=1e-6)


def test_the_model_is_better_than_chance_and_the_facts_say_what_chance_is(evidence: Evidence) -> None:
    assert evidence.facts["candidates.image_to_text.test"] == 24
    assert evidence.facts["candidates.text_to_image.test"] == 47
    assert evidence.facts["chance.recall@5.image_to_text.test"] == pytest.approx(5 / 24, abs=1e-6)
    assert evidence.facts["chance.recall@1.text_to_image.test"] == pytest.approx(47 / 24 / 47, abs=1e-6)
    recall = evidence.find("recall@5", {"task": "image_to_text", "split": "test"})
    assert recall is not None
    assert recall.interval is not None
    assert recall.interval.low > 5 / 24
    assert (recall.n, recall.clusters) == (47, 24)
    assert evidence.facts["retrieval.language"] == "en"
    assert evidence.facts["retrieval.ties"] == "pessimistic"


def test_every_measurement_follows_exactly_from_the_stored_rows(
    evidence: Evidence, rows: dict[str, np.ndarray]
) -> None:
    names = {m.name for m in evidence.measurements}
    assert names == {
        "recall@1",
        "recall@5",
        "recall@10",
        "median_rank",
        "map",
        "cider",
        "clip_score",
        "chrf",
        "chrf_best_of_3",
        "latency_p50",
        "latency_p95",
        "latency_p99",
        "throughput",
        "peak_memory",
    }
    for measurement in evidence.measurements:
        assert recompute(rows, measurement) == measurement
        assert measurement.recipe is not None
        where = {name: value for name, value in measurement.recipe.where.items() if name != "condition"}
        assert where == measurement.slice
        told = measurement.no_interval
        assert measurement.interval is not None or "cannot bound" in told or measurement.name == "peak_memory"
    keys = [m.key for m in evidence.measurements]
    assert len(keys) == len(set(keys))


def test_slices(evidence: Evidence) -> None:
    slices = {m.slice for m in evidence.measurements if m.name == "recall@10"}
    base = [Tags(task=t, split=s) for t in ("image_to_text", "text_to_image") for s in ("test", "test_style")]
    styles = [Tags(task="image_to_text", split="test", style=s) for s in ("plain", "pale")]
    seen = [
        Tags(task=t, split="test_style", concept_split=c)
        for t in ("image_to_text", "text_to_image")
        for c in ("train", "none")
    ]
    assert slices == {*base, *styles, *seen}
    speed = {(m.name, m.slice["operation"]) for m in evidence.measurements if m.slice["task"] == "latency"}
    assert speed == {(f"latency_p{p}", o) for p in (50, 95, 99) for o in ("embed_image", "embed_text", "describe")}
    assert all(m.direction == "lower" and m.unit == "ms" and m.value > 0 and m.n == 80 for m in _latency(evidence))


def test_captions_drawn_in_all_styles_are_not_sliced_by_style(store: Store) -> None:
    config = dataclasses.replace(QUICK, min_slice_concepts=1, latency_samples=0, caption_samples=0)
    evidence = evaluate(ColourModel(), tiles(broken=["plain/tan", "pale/gold"]), config, store)
    rows = read_rows(store.blobs.get(evidence.rows))
    styles = picked(rows, task="text_to_image", split="test")["style"]
    assert sorted(styles.tolist()) == ["mixed"] * 22 + ["pale", "plain"]
    sliced = {m.slice["task"] for m in evidence.measurements if "style" in m.slice}
    assert sliced == {"image_to_text"}


def _latency(evidence: Evidence) -> list:
    return [m for m in evidence.measurements if m.slice["task"] == "latency"]


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (
            ("clean", "snow"),
            "1 samples of split 'test' are unscored for caption (2 times): their images cannot be read",
        ),
        (("typos", "synonyms"), "1 samples of split 'test' are unscored for caption under synonyms, typos (2 times)"),
        (("a", "b", "c", "d"), "caption under a, b, c and 1 more (4 times): their images"),
    ],
)
def test_what_is_missing_under_conditions_only_says_so(conditions: tuple[str, ...], said: str) -> None:
    same = {"task": "caption", "split": "test", "unscored": "unreadable_image", "sample": "one"}
    rows = {name: np.array([cell] * len(conditions), dtype=object) for name, cell in same.items()}
    (found,) = unscored_findings(rows | {"condition": np.array(conditions, dtype=object)})
    assert said in found.message
    assert found.where == "one"


def test_unsupported_suites_name_models_that_support_them(store: Store) -> None:
    with pytest.raises(CapabilityError, match="they need a Captioner, and it is none of these") as error:
        evaluate(IncapableModel(), tiles(), dataclasses.replace(QUICK, suites=("captioning",)), store)
    assert "image-text-to-text model (hf:org/name)" in error.value.fix


def test_nothing_is_dropped_silently(evidence: Evidence, rows: dict[str, np.ndarray]) -> None:
    codes = {(f.code, f.where) for f in evidence.findings}
    assert ("CLR-E001", "plain/tan") in codes
    assert ("CLR-E001", "plain/zz-deutsch") in codes
    left_out = next(f for f in evidence.findings if f.code == "CLR-E006")
    assert left_out.count == 24
    assert not any("dark" in sample for sample in rows["sample"])
    unscored = {s: reason for s, reason in zip(rows["sample"], rows["unscored"], strict=True) if reason}
    assert unscored["plain/tan"] == "unreadable_image"
    assert unscored["plain/zz-deutsch"] == "no_caption"


def test_an_image_without_a_caption_is_unscored_and_not_zero(data: Dataset, store: Store) -> None:
    config = dataclasses.replace(QUICK, caption_samples=100, latency_samples=0)
    evidence = evaluate(ColourModel(silent="navy"), data, config, store)
    rows = read_rows(store.blobs.get(evidence.rows))
    ours = picked(rows, task="caption", split="test")
    unreadable = ours["unscored"] == "unreadable_image"
    assert ours["sample"][unreadable].tolist() == ["plain/tan"]
    silent = (ours["answer"] == "") & ~unreadable
    assert {"plain/navy"} <= set(ours["sample"][silent])
    assert np.isnan(ours["chrf"][silent]).all()
    assert np.isnan(ours["chrf_best"][silent]).all()
    scored = ~silent & ~unreadable
    assert (ours["chrf_best"][scored] >= ours["chrf"][scored]).all()
    for caption, answer, score in zip(*(ours[n][scored] for n in ("query", "answer", "chrf")), strict=True):
        assert score == chrf(answer, " ".join(caption.lower().split()))
    measured = evidence.find("chrf", {"task": "caption", "split": "test"})
    assert measured is not None
    assert measured.n == scored.sum() == 48 - 1 - silent.sum()
    finding = next(f for f in evidence.findings if f.code == "CLR-E002" and f.details["split"] == "test")
    assert (finding.count, finding.reason) == (silent.sum(), "no_caption_written")
    assert "plain/navy" in finding.where


def test_a_model_that_cannot_caption_is_evaluated_on_the_rest(data: Dataset, store: Store) -> None:
    evidence = evaluate(EmbedderOnly(ColourModel()), data, QUICK, store)
    assert {m.slice["task"] for m in evidence.measurements} == {
        "image_to_text",
        "text_to_image",
        "latency",
        "throughput",
        "memory",
    }
    assert {m.slice["operation"] for m in _latency(evidence)} == {"embed_image", "embed_text"}
    assert [f.state for f in evidence.findings if f.code == "CLR-E004"] == ["not_applicable"]


def test_the_same_subject_is_not_evaluated_twice(data: Dataset, shared: Store, evidence: Evidence) -> None:
    model = ColourModel()
    assert evaluate(model, tiles(broken=["plain/tan"]), QUICK, shared) == evidence
    assert model.images_seen == 0
    assert model.texts_seen == []
    assert shared.evidence(evidence.id) == evidence


def test_another_config_data_or_model_is_another_subject(data: Dataset, shared: Store, evidence: Evidence) -> None:
    model = ColourModel()
    quicker = evaluate(model, data, dataclasses.replace(QUICK, latency_samples=0, caption_samples=0), shared)
    assert quicker.subject.differing_fields(evidence.subject) == ("config",)
    assert model.images_seen == 0, "the embeddings are those of the first evaluation"
    retrieval = [
        m for m in evidence.measurements if m.slice["task"] not in ("caption", "latency", "throughput", "memory")
    ]
    assert list(quicker.measurements) == retrieval
    other = evaluate(ColourModel(silent="none"), data, dataclasses.replace(QUICK, latency_samples=0), shared)
    assert "model" in other.subject.differing_fields(evidence.subject)


def test_the_subject_names_everything_it_depends_on(data: Dataset, evidence: Evidence) -> None:
    subject = evidence.subject
    assert (subject.model, subject.data) == (ColourModel().digest, data.digest)
    assert (subject.code, subject.environment) == (stage_code("evaluate"), environment_digest())
    assert subject.config == digest(QUICK)


def test_two_runs_differ_in_time_only(data: Dataset, evidence: Evidence, store: Store) -> None:
    again = evaluate(ColourModel(), data, QUICK, store)
    assert again.artifacts == evidence.artifacts
    assert again.findings == evidence.findings
    untimed = [m for m in evidence.measurements if m.slice["task"] not in ("latency", "throughput", "memory")]
    assert [m for m in again.measurements if m.slice["task"] not in ("latency", "throughput", "memory")] == untimed


def test_texts_are_timed_on_words_the_model_has_not_met(data: Dataset, store: Store) -> None:
    model = ColourModel()
    evaluate(model, data, QUICK, store)
    timed = [text for text in model.texts_seen if text.startswith("image ")]
    assert len(timed) == len(set(timed)) > QUICK.latency_samples + QUICK.warm_up_requests


class Broken(ColourModel):
    """Forgets what one colour looks like."""

    def __init__(self, row: list[float], where: str) -> None:
        super().__init__()
        self.digest = digest({"row": [str(number) for number in row], "where": where})
        self._row, self._where = row, where

    def embed_images(self, images: list[Image.Image], dim: int | None = None) -> np.ndarray:
        rows = super().embed_images(images, dim)
        if self._where == "picture":
            rows[[np.asarray(image)[5, 5].tolist() == [0, 0, 255] for image in images]] = self._row
        return rows

    def embed_texts(self, texts: list[str], dim: int | None = None) -> np.ndarray:
        rows = super().embed_texts(texts, dim)
        if self._where == "text":
            rows[["blue" in text for text in texts]] = self._row
        return rows


@pytest.mark.parametrize(
    ("row", "where", "message"),
    [
        ([np.nan] * 8, "picture", "plain/blue.*NaN"),
        ([np.inf] + [0.0] * 7, "picture", "plain/blue.*infinity"),
        ([0.0] * 8, "picture", "plain/blue.*length 0"),
        ([np.nan] * 8, "text", "blue tile.*NaN"),
    ],
)
def test_unusable_embeddings_name_the_sample(row: list[float], where: str, message: str, store: Store) -> None:
    with pytest.raises(CapabilityError, match=message) as caught:
        evaluate(Broken(row, where), tiles(), QUICK, store)
    assert caught.value.fix == "evaluate an earlier checkpoint, or check the model's files"
    assert store.find_evidence("evaluate") == []


def test_data_without_splits_is_evaluated_whole(store: Store) -> None:
    config = dataclasses.replace(QUICK, latency_samples=0)
    evidence = evaluate(ColourModel(), tiles(splits=False), config, store)
    assert {m.slice["split"] for m in evidence.measurements} == {"all"}
    recall = evidence.find("recall@1", {"task": "image_to_text", "split": "all"})
    assert recall is not None
    assert recall.n == 72


def test_a_missing_split_is_a_finding(data: Dataset, store: Store) -> None:
    config = dataclasses.replace(QUICK, splits=("test", "tset_style"), latency_samples=0, caption_samples=0)
    evidence = evaluate(ColourModel(), data, config, store)
    assert [f.where for f in evidence.findings if f.code == "CLR-E003"] == ["split tset_style"]
    with pytest.raises(NotFound, match="did you mean test"):
        evaluate(ColourModel(), data, dataclasses.replace(config, splits=("tset",)), store)


def test_too_little_data_is_a_sentence_with_the_fix(store: Store) -> None:
    with pytest.raises(DataError, match=r"1 concepts.*add images of other concepts"):
        evaluate(ColourModel(), tiles(colours=["red"]).filter(lambda s: s.concept == "red"), QUICK, store)
    french = dataclasses.replace(QUICK, language="fr")
    with pytest.raises(
        DataError, match="no image of split 'test' has a caption in 'fr'.*set language to one of de, en"
    ):
        evaluate(ColourModel(), tiles(), french, store)


def test_another_language(store: Store) -> None:
    config = dataclasses.replace(QUICK, language="de", splits=("test",), latency_samples=0, caption_samples=0)
    evidence = evaluate(ColourModel(), tiles(), config, store)
    assert evidence.facts["candidates.image_to_text.test"] == 25


def test_slices_that_are_too_small_are_findings(data: Dataset, store: Store) -> None:
    evidence = evaluate(
        ColourModel(), data, dataclasses.replace(QUICK, min_slice_concepts=24, latency_samples=0), store
    )
    small = [f.where for f in evidence.findings if f.code == "CLR-E005"]
    # An unreadable picture leaves the plain style with 23 colours; either half of the unseen style has 12.
    assert "split=test, style=plain, task=image_to_text" in small
    assert "split=test, style=pale, task=image_to_text" not in small
    assert len(small) == 5


def test_examples_show_what_the_model_found(
    evidence: Evidence, shared: Store, data: Dataset, rows: dict[str, np.ndarray]
) -> None:
    kept = json.loads(shared.blobs.get(evidence.artifacts["examples"]))
    examples = kept["examples"]
    assert {(e["task"], e["split"]) for e in examples} == {
        (t, s) for t in ("image_to_text", "text_to_image") for s in ("test", "test_style")
    }
    for example in examples:
        assert data[example["sample"]].split == example["split"]
        scores = [n["score"] for n in example["neighbours"]]
        assert scores == sorted(scores, reverse=True)
        right = [place for place, n in enumerate(example["neighbours"], 1) if n["correct"]]
        if right and len(set(scores)) == len(scores):
            assert right[0] == example["rank"]
        elif not right:
            assert example["rank"] > len(scores) - 1
        assert all(data[n["sample"]].split == example["split"] for n in example["neighbours"])
    for task, split in {(e["task"], e["split"]) for e in examples}:
        mine = [e for e in examples if (e["task"], e["split"]) == (task, split)]
        ranks = {kind: [e["rank"] for e in mine if e["kind"] == kind] for kind in ("best", "typical", "worst")}
        known = picked(rows, task=task, split=split)["rank"]
        assert max(ranks["worst"]) == np.nanmax(known)
        assert min(ranks["best"]) == np.nanmin(known)
        assert np.nanmedian(known) in ranks["typical"] or len(set(known)) < 4
        assert len({e["concept"] for e in mine}) == len(mine)
    assert kept["captions"][0]["suggestions"][0]["text"].endswith("tile")


def test_embeddings_are_kept_and_the_same_picture_is_embedded_once(store: Store) -> None:
    shared_picture = [Sample(f"{i}", tiles().samples[0].image, (Caption("x"),)) for i in range(5)]
    data = Dataset("copies", shared_picture, lambda sample: tiles().read(sample))
    model = ColourModel()
    matrix = embed_dataset(model, data, store)
    assert model.images_seen == 1
    assert matrix.shape == (5, 8)
    again = ColourModel()
    np.testing.assert_array_equal(embed_dataset(again, data, store), matrix)
    assert again.images_seen == 0


def damage(store: Store, blob: str) -> None:
    path = store.blobs.path(blob)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))


def test_damaged_embeddings_are_made_again(store: Store) -> None:
    matrix = embed_dataset(ColourModel(), tiles(), store)
    with closing(sqlite3.connect(store.answer_cache.file)) as connection, connection:
        key, value = connection.execute("SELECT key, value FROM answers LIMIT 1").fetchone()
        connection.execute("UPDATE answers SET value = ? WHERE key = ?", (value[:-1] + bytes([value[-1] ^ 1]), key))
    model = ColourModel()
    np.testing.assert_array_equal(embed_dataset(model, tiles(), store), matrix)
    assert model.images_seen == 1


def test_one_changed_pixel_is_one_picture_embedded_again(store: Store) -> None:
    data = tiles()
    embed_dataset(ColourModel(), data, store)
    changed = data.samples[7]
    image = decode_image(data.read(changed))
    image.putpixel((0, 0), (1, 2, 3))
    out = io.BytesIO()
    image.save(out, "PNG")
    new = dataclasses.replace(changed, image=hashlib.sha256(out.getvalue()).hexdigest())
    samples = [new if sample.id == changed.id else sample for sample in data]
    model = ColourModel()
    embed_dataset(
        model, Dataset("changed", samples, lambda s: out.getvalue() if s.id == new.id else data.read(s)), store
    )
    assert model.images_seen == 1


def test_suites_that_a_change_does_not_touch_are_not_made_again(store: Store, data: Dataset) -> None:
    first = evaluate(ColourModel(), data, QUICK, store)
    model = ColourModel()
    second = evaluate(model, data, dataclasses.replace(QUICK, caption_samples=5), store)
    same = [
        name
        for name in ("retrieval", "captioning", "latency")
        if second.facts[f"suite.{name}"] == first.facts[f"suite.{name}"]
    ]
    assert same == ["retrieval", "latency"]
    states = {s.name: (s.state, s.changed) for s in freshness(model.digest, data.digest, store, QUICK)}
    assert set(states.values()) == {("fresh", ())}
    other = {s.name: (s.state, s.changed) for s in freshness(model.digest, "f" * 64, store, QUICK)}
    assert set(other.values()) == {("stale", ("data",))}
    assert {s.state for s in freshness("0" * 64, data.digest, store, QUICK)} == {"missing"}


@pytest.mark.parametrize("part", ["rows", "examples", "id"])
def test_damaged_evidence_is_made_again(part: str, store: Store) -> None:
    config = dataclasses.replace(QUICK, latency_samples=0, caption_samples=0)
    first = evaluate(ColourModel(), tiles(), config, store)
    damage(store, {"rows": first.rows, "examples": first.artifacts["examples"], "id": first.id}[part])
    again = evaluate(ColourModel(), tiles(), config, store)
    assert again.measurements == first.measurements
    assert store.verify_evidence(again.id) == []


@pytest.mark.icons
def test_the_real_thing_on_some_icons(tiny_model: Path, few_icons: Dataset, store: Store) -> None:
    """A random image tower knows nothing, and the interval says so; words of the text tower are words."""
    config = dataclasses.replace(QUICK, caption_samples=12, latency_samples=3)
    evidence = evaluate(open_model(tiny_model), few_icons, config, store)
    rows = read_rows(store.blobs.get(evidence.rows))
    for measurement in evidence.measurements:
        assert recompute(rows, measurement) == measurement
    for split in ("test", "test_style"):
        plain = few_icons.filter(lambda s, split=split: s.split == split and s.groups["skin_tone"] == "none")
        recall = evidence.find("recall@1", {"task": "image_to_text", "split": split})
        assert recall is not None
        assert recall.interval is not None
        assert recall.n == len(plain)
        assert recall.clusters == len({s.concept for s in plain})
        assert recall.interval.low <= 0.1
        candidates = evidence.facts[f"candidates.image_to_text.{split}"]
        assert candidates == len({" ".join(s.caption.casefold().split()) for s in plain})
    described = picked(rows, task="caption")
    assert len(described["chrf"]) == 24
    assert all(
        answer or reason == "no_caption_written"
        for answer, reason in zip(described["answer"], described["unscored"], strict=True)
    )


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_the_batch_size_changes_nothing(batch: int, store: Store, shared: Store) -> None:
    data = tiles(broken=["plain/tan"])
    np.testing.assert_array_equal(
        embed_dataset(ColourModel(), data, store, batch_size=batch), embed_dataset(ColourModel(), data, shared)
    )


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="batch"):
        EvaluateConfig(batch_size=0)
    with pytest.raises(ConfigError, match="splits"):
        EvaluateConfig(splits=())
