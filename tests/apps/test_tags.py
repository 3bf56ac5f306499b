"""Tags of photographs, and descriptions of mixed files: tags for photographs, captions for drawings."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clerestory.apps.folder_index import FolderIndex
from clerestory.apps.right_model import included_photos
from clerestory.apps.tagging import embed_and_tag, open_index
from clerestory.apps.tags import (
    MIN_PROBABILITY,
    ClassTag,
    Tag,
    Tagger,
    included_tagger,
    reasons,
    shared_tags,
    tagger_of,
)
from clerestory.cli.main import run
from clerestory.core.errors import IntegrityError
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.models.photo.encoder import (
    CONFIG,
    TAG_NAMES,
    PhotoEncoder,
    PhotoFeatures,
    open_photo_encoder,
    save_with_own_head,
)
from clerestory.models.photo.learned_tags import LearnedTags, phrases_of
from clerestory.models.photo.space import LinearHead
from clerestory.models.resolve import open_folder
from clerestory.stages.train.tune.head.caption_tags import (
    MARGIN,
    caption_words,
    cut_off,
    fit_learned_tags,
    is_confirmed,
    learn_from_captions,
)
from clerestory.stages.train.tune.head.requirements import NUM_FOLDS
from clerestory.store import open_store


@pytest.fixture(scope="module")
def photographs() -> Dataset:
    return open_data("photographs")


def test_everyday_words_for_real_photographs(photographs: Dataset) -> None:
    found = included_photos().features([decode_sample(photographs, sample) for sample in photographs])
    tags = {s.id: t for s, t in zip(photographs, included_tagger().tags(found), strict=True)}
    words = {name: {tag.text for tag in some} for name, some in tags.items()}
    assert "cat" in words["cat.png"]
    assert "person" in words["astronaut.png"]
    assert "boat" in words["boats-in-a-village.jpg"]
    assert words["galaxies.jpg"] == set()  # not sure
    assert all(tag.probability >= MIN_PROBABILITY for some in tags.values() for tag in some)
    assert not any("flag" in word for some in words.values() for word in some)


def test_the_most_specific_word_that_is_probable_is_the_tag() -> None:
    vocabulary = (ClassTag("dog", (0, 1)), ClassTag("animal", (0, 1, 2)), ClassTag("poodle", (0,)))
    tagger = Tagger(vocabulary, (), slope=0.0, offset=3.0)
    logits = np.log([[0.8, 0.1, 0.05, 0.05], [0.3, 0.3, 0.1, 0.3], [0.2, 0.2, 0.2, 0.4], [0.1, 0.1, 0.1, 0.7]])
    found = PhotoFeatures(np.zeros((4, 1)), logits)
    assert [[tag.text for tag in some] for some in tagger.tags(found)] == [["poodle"], ["dog"], ["animal"], []]
    assert Tagger(vocabulary, (), slope=0.0, offset=0.0).tags(found) == [[], [], [], []]  # not probable enough


def test_words_are_learned_from_captions_where_they_can_be_predicted() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 12))
    present = np.stack([features[:, 0] > 0.5, rng.random(400) < 0.3], axis=1)
    learned = fit_learned_tags(features[:300], present[:300], ("red", "noise"))
    assert learned.names == ("red",)
    tags = learned.probable(features[300:])
    said = np.array([bool(some) for some in tags])
    assert present[300:, 0][said].mean() >= 0.85
    assert said.sum() >= 10


def test_the_reason_of_a_match_is_a_shared_tag() -> None:
    dog, person = Tag("dog", 0.9), Tag("person", 0.95)
    assert shared_tags([dog, person], [Tag("dog", 0.8)]) == ["dog"]
    assert shared_tags([dog, person], "two puppies playing, a terrier") == ["dog"]
    assert shared_tags([person], "a lighthouse") == []
    assert shared_tags([dog, person], "two men and their puppies") == ["dog", "person"]
    assert shared_tags([Tag("animal", 0.9)], "a young woman") == [], "young means no animal here"
    assert reasons((dog, person), "a man", [Tag("dog", 0.8), Tag("snow", 0.9)]) == ("dog", "person")
    assert reasons(None, "a man", []) == ()
    assert [Tag("x", p).likelihood for p in (0.97, 0.92, 0.81)] == ["almost certain", "very likely", "likely"]


def _captioned(number: int, seed: int = 0) -> tuple[np.ndarray, list[list[str]]]:
    """Features, and captions of which one word follows from them, and others do not."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(number, 48))
    noise = np.array(["boat", "tree", "hat"])
    captions = [
        [f"the {'kites' if i % 2 and row[0] > 0.4 else 'kite' if row[0] > 0.4 else 'sky'} with a {rng.choice(noise)}"]
        for i, row in enumerate(features)
    ]
    return features, captions


def test_words_of_captions_are_learned_where_they_are_predicted_on_other_images() -> None:
    features, captions = _captioned(1400)
    learned = learn_from_captions(features[:400], captions[:400], np.arange(400))
    assert learned is not None
    assert learned.names == ("kite",), "neither function words, nor those of most captions, nor noise"
    found = np.array([bool(some) for some in learned.probable(features[400:])])
    present = np.array(["kite" in text for (text,) in captions[400:]])
    assert found.sum() >= 10
    assert present[found].mean() >= 0.85


def test_nothing_is_learned_from_few_captions_or_from_noise() -> None:
    assert learn_from_captions(*_captioned(20), np.arange(20)) is None
    rng = np.random.default_rng(1)
    words = ["boat", "tree", "hat", "dog", "street", "car"]
    for _ in range(3):
        noise = [[" ".join(rng.choice(words, 2))] for _ in range(200)]
        assert learn_from_captions(rng.normal(size=(200, 40)), noise, np.arange(200)) is None
    # Images of one thing are in one fold: what is only known from another image of the same thing is not learned.
    features = np.repeat(rng.normal(size=(30, 80)), 6, axis=0) + rng.normal(scale=0.8, size=(180, 80))
    captions = [["a red kite"] if group < 10 else ["a hat"] for group in range(30) for _ in range(6)]
    assert learn_from_captions(features, captions, np.repeat(np.arange(30), 6)) is None
    assert learn_from_captions(features, captions, np.arange(180)) is not None


def test_a_burst_of_one_scene_counts_as_one_image() -> None:
    features, captions = _captioned(40)
    repeated = [texts for texts in captions for _ in range(10)]
    shots = np.repeat(features, 10, axis=0) + np.random.default_rng(2).normal(scale=0.01, size=(400, 48))
    assert learn_from_captions(shots, repeated, np.arange(400)) is None
    assert learn_from_captions(*_captioned(400), np.arange(400)) is not None


def test_the_cut_off_of_a_word_is_confirmed_on_other_images() -> None:
    rng = np.random.default_rng(0)
    chosen = confirmed = 0
    for _ in range(300):  # words of which 85 in 100 are right at any score: the best of all cut-offs is a lucky one
        scores, present = rng.normal(size=200), rng.random(200) < 0.85
        chosen += cut_off(scores, present, MARGIN) is not None
        confirmed += is_confirmed(scores, present, np.arange(200) % NUM_FOLDS)
    assert chosen >= 60
    assert confirmed <= chosen / 3
    scores = np.linspace(1, 0, 200)
    assert is_confirmed(scores, scores > 0.7, np.arange(200) % NUM_FOLDS)


def test_words_of_any_script_are_learned_whole_and_only_the_most_frequent_are_tried() -> None:
    said = caption_words([["Das Café"], ["the dog's ice-cream, 3.5 2024"], ["a dog at the cafe\u0301"], ["लड़की"]])
    assert said == [{"das", "café"}, {"dog", "ice-cream"}, {"dog", "café"}, {"लड़की"}]
    assert {"café", "t-shirt", "shirt", "dog", "ice cream"} <= phrases_of(["cafe\u0301 t-shirt dog's ice-cream"])
    features, captions = _captioned(400)
    rare = [[*texts, f"word{'abcdefghijklmnopqrst'[i % 20]}"] for i, texts in enumerate(captions)]
    for limit, names in ((1_000, ("kite",)), (1, None)):
        learned = learn_from_captions(features, rare, np.arange(400), limit)
        assert (learned.names if learned else None) == names, limit


def test_a_model_carries_the_words_that_it_learned(photographs: Dataset, tmp_path: Path) -> None:
    photos = included_photos()
    images = [decode_sample(photographs, sample) for sample in photographs.samples[:6]]
    features = photos.features(images).features
    first = features[0] - features.mean(axis=0)
    weight = (first / (first @ first))[:, None]
    bias = -float(features.mean(axis=0) @ weight[:, 0])
    own = LearnedTags(("our boat",), weight, np.array([bias]), np.array([0.9]), np.array([4.0]), np.array([-1.0]))
    head = LinearHead(photos.space.general.mean + 0, photos.space.general.weight + 0, 0.5)
    (folder := tmp_path / "model").mkdir()
    save_with_own_head(photos, head, "a head of a test", "photos", folder, own)
    model = open_folder(folder)
    assert isinstance(model, PhotoEncoder)
    for names in ([["x"]], [1], "x", 5, [None], {"x": 1}):  # of a stranger's file
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        shutil.copytree(folder, other := tmp_path / "other", dirs_exist_ok=True)
        (other / CONFIG).write_text(json.dumps(config | {TAG_NAMES: names}), encoding="utf-8")
        with pytest.raises(IntegrityError, match="do not fit"):
            _ = open_photo_encoder(other).own_tags
    assert model.facts()["own_tags"] == 1
    tags = tagger_of(model).tags(model.features(images))
    assert ["our boat" in {tag.text for tag in some} for some in tags] == [True, *[False] * 5]
    assert (model.embed_images(images[:1]) == model.embed_features(model.features(images[:1]))).all()
    (again := tmp_path / "again").mkdir()
    save_with_own_head(model, head, "a head of a test", "photos", again)
    other = open_folder(again)
    assert isinstance(other, PhotoEncoder)
    assert other.own_tags is None, "tags are replaced together with the head"


def test_the_index_of_a_folder_keeps_the_tags_of_photographs(photographs: Dataset, tmp_path: Path) -> None:
    folder, photos = tmp_path / "folder", included_photos()
    folder.mkdir()
    for sample in photographs:
        if sample.id in ("cat.png", "astronaut.png", "galaxies.jpg"):
            decode_sample(photographs, sample).convert("RGB").save(folder / f"{Path(sample.id).stem}.jpg")
    Image.new("RGB", (640, 480), "white").save(folder / "empty page.png")
    store = open_store(tmp_path / "home")
    open_index(folder, store, photos).update(embed_and_tag(photos))
    query = photos.embed_texts(["a cat"])[0]
    hits = {hit.path: hit.tags for hit in open_index(folder, store, photos).search(query)}
    assert hits["cat.jpg"] is not None
    assert "cat" in {tag.text for tag in hits["cat.jpg"]}
    assert hits["galaxies.jpg"] == (), "a photograph, but not sure"
    assert hits["empty page.png"] is None, "no photograph"
    # An index of other tags, or of other code, is removed; one without tags is kept beside it, and has none.
    plain = FolderIndex.open(folder, store, photos.digest, photos.dims)
    plain.update(photos.embed_images)
    assert {hit.tags for hit in plain.search(query)} == {None}
    outdated = FolderIndex.open(folder, store, photos.digest, photos.dims, "0" * 64).directory
    outdated.mkdir()
    open_index(folder, store, photos).update(embed_and_tag(photos))
    assert not outdated.exists()
    assert plain.directory.exists()


def test_search_names_the_tags_that_a_result_shares_with_the_query(
    photographs: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, table = tmp_path / "folder", tmp_path / "hits.csv"
    folder.mkdir()
    for sample in photographs.samples:
        decode_sample(photographs, sample).convert("RGB").save(folder / f"{Path(sample.id).stem}.jpg")
    common = ["--data", str(folder), "--home", str(tmp_path / "home"), "--model", "photos", "--limit", "3"]
    assert run(["use", "search", "a", "kitten", *common, "--csv", str(table), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)[0]
    assert best["id"] == "cat.jpg"
    assert best["shared_tags"] == ["cat"]
    assert best["tags"][0]["probability"] >= MIN_PROBABILITY
    with table.open(encoding="utf-8-sig", newline="") as file:
        assert next(csv.DictReader(file))["shared_tags"] == "cat"
    assert run(["use", "search", "--like", str(folder / "cat.jpg"), *common]) == 0
    assert "shared tags" in capsys.readouterr().out


def test_describe_gives_photographs_tags_and_drawings_captions(
    photographs: Dataset, few_icons: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, sample in enumerate(photographs.samples[:3]):
        decode_sample(photographs, sample).convert("RGB").save(tmp_path / f"photograph {i}.jpg")
    decode_sample(few_icons, few_icons.samples[0]).save(tmp_path / "drawing.png")
    table, home = tmp_path / "captions.csv", tmp_path / "home"
    assert run(["use", "describe", str(tmp_path), "--csv", str(table), "--home", str(home)]) == 0
    shown = capsys.readouterr()
    assert "3 images are photographs, with tags from the included model photos" in shown.err
    assert "1 image is a drawing, with captions from starter" in shown.err
    assert "do not look like" not in shown.err
    with table.open(encoding="utf-8-sig", newline="") as file:
        lines = {line["file"]: line for line in csv.DictReader(file)}
    assert lines["drawing.png"]["caption"]
    assert lines["drawing.png"]["suggested tags"] == ""
    assert "person" in lines["photograph 1.jpg"]["suggested tags"]
    assert [line["caption"] for name, line in lines.items() if name != "drawing.png"] == [""] * 3

    only = ["use", "describe", str(tmp_path / "photograph 1.jpg"), "--model", "photos", "--home", str(home)]
    assert run([*only, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["suggestions"] == []
    assert [tag["text"] for tag in row["tags"]] == lines["photograph 1.jpg"]["suggested tags"].split(", ")
