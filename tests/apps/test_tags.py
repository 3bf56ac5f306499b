"""Tags of photographs, and descriptions of mixed files: tags for photographs, captions for drawings."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from clerestory.apps.right_model import included_photos
from clerestory.apps.tags import (
    MIN_PROBABILITY,
    ClassTag,
    Tag,
    Tagger,
    fit_learned_tags,
    included_tagger,
    shared_tags,
)
from clerestory.cli.main import run
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.models.photo.encoder import PhotoFeatures


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
    tags = learned.tags(features[300:])
    said = np.array([bool(some) for some in tags])
    assert present[300:, 0][said].mean() >= 0.85
    assert said.sum() >= 10


def test_the_reason_of_a_match_is_a_shared_tag() -> None:
    dog, person = Tag("dog", 0.9), Tag("person", 0.95)
    assert shared_tags([dog, person], [Tag("dog", 0.8)]) == ["dog"]
    assert shared_tags([dog, person], "two puppies playing, a terrier") == ["dog"]
    assert shared_tags([person], "a lighthouse") == []


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
    assert lines["drawing.png"]["tags"] == ""
    assert "person" in lines["photograph 1.jpg"]["tags"]
    assert [line["caption"] for name, line in lines.items() if name != "drawing.png"] == [""] * 3

    only = ["use", "describe", str(tmp_path / "photograph 1.jpg"), "--model", "photos", "--home", str(home)]
    assert run([*only, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["suggestions"] == []
    assert [tag["text"] for tag in row["tags"]] == lines["photograph 1.jpg"]["tags"].split(", ")
