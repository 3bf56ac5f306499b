"""Pictograms as training data: their captions, and that no held_out-out name is among them."""

from __future__ import annotations

import pytest
from bench.experiments.held_out_meanings import MAX_COSINE, supplement_names

from clerestory.core.sample import TEST, TRAIN, Caption, Dataset, Sample
from clerestory.data.held_out_names import HeldOutNames, name_key, stem
from clerestory.data.icons import open_icons
from clerestory.data.pictograms import _named, base_name, sets
from clerestory.models.text_tower import load_text_tower


def dataset(*samples: Sample) -> Dataset:
    return Dataset("few", samples, lambda sample: b"")


def sample(caption: str, split: str, *keywords: str) -> Sample:
    words = (Caption(caption), *(Caption(word, kind="keyword") for word in keywords))
    return Sample(caption, "0" * 64, words, caption.replace(" ", "-"), split=split)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("home-outline-24-filled", "home"), ("home", "home"), ("cloud-off", "cloud"), ("ice-cream-2-line", "ice-cream")],
)
def test_a_base_name_has_no_style_suffix(name: str, expected: str) -> None:
    assert base_name(name) == expected


def test_words_are_compared_in_the_singular_without_small_ones() -> None:
    assert name_key("Boxes of the berries") == name_key("berry box")
    assert name_key("glass") == {"glass"}
    assert name_key("face with 2 eyes") == {"eye"}


def test_names_of_held_out_concepts_are_held_out() -> None:
    held_out = HeldOutNames(dataset(sample("red apple", TEST, "fruit"), sample("dog", TRAIN, "pet")))
    for name in ("apple", "red apple", "apple red juice", "fruit", "apples"):
        assert name in held_out, name
    for name in ("apple juice", "dog", "pet", "fruit bowl", "table"):
        assert name not in held_out, name


def test_other_spellings_derivations_and_compounds_are_held_out() -> None:
    captions = (
        "race car",
        "flag: Japan",
        "roller coaster",
        "fleur-de-lis",
        "skis",
        "eraser",
        "video camera",
        "grey heart",
    )
    held_out = HeldOutNames(dataset(*(sample(caption, TEST) for caption in captions)))
    for name in (
        *("racing car", "japanese flag", "rollercoaster", "rollercoaster loop", "fleur de lys", "skiing", "erase"),
        *("videocam", "videocamera", "racecar", "gray heart", "roller coasters", "skier", "racecars"),
    ):
        assert name in held_out, name
    for name in ("mountain", "carpet", "skill", "fleece", "japanese garden", "race track", "photo"):
        assert name not in held_out, name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("skis", "skiing"),
        ("eraser", "erase"),
        ("japan", "japanese"),
        ("runner", "running"),
        ("berries", "berry"),
        ("baker", "baking"),
    ],
)
def test_words_of_one_family_have_one_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


def test_words_of_different_families_have_different_stems() -> None:
    words = (
        "car",
        "cat",
        "bus",
        "glass",
        "ring",
        "king",
        "wing",
        "ship",
        "shop",
        "tree",
        "star",
        "stair",
        "dress",
        "bell",
    )
    assert len({stem(word) for word in words}) == len(words)


def test_no_name_of_a_pictogram_means_a_held_out_concept() -> None:
    """Every fourth name of every fifth set (all take minutes): its cosine to every held-out caption, in the tower."""
    icons = open_icons()
    captions = sorted({sample.caption for sample in icons if sample.split in ("test", "val")})
    names = supplement_names(icons, list(sets())[::5])[::4]
    assert len(names) > 500
    tower = load_text_tower()
    nearest = (tower.embed(names) @ tower.embed_cached(captions).T).max(axis=1)
    found = {name: float(cosine) for name, cosine in zip(names, nearest, strict=True) if cosine >= MAX_COSINE}
    assert found == {}


def test_excluded_names_and_third_variants_are_left_out() -> None:
    names = ["lamp", "lamp-outline", "lamp-filled", "brand-lamp", "apple", "letter-a", "arrow-up", "lamp-desk"]
    icon_set = {"icons": {name: {"body": "<path d='M0 0h9v9z'/>"} for name in names}}
    held_out = HeldOutNames(dataset(sample("red apple", TEST)))
    pictograms = list(_named("few", icon_set["icons"], icon_set, "MIT", "few@1", held_out))
    assert [(d.name, d.caption) for d in pictograms] == [
        ("lamp", "lamp"),
        ("lamp-desk", "lamp desk"),
        ("lamp-filled", "lamp"),
    ]
    assert {d.licence for d in pictograms} == {"MIT"}


def test_every_held_out_caption_of_the_icons_is_held() -> None:
    icons = open_icons()
    held_out = HeldOutNames(icons)
    captions = {sample.caption for sample in icons if sample.split in ("test", "val")}
    assert len(captions) > 500
    assert [c for c in captions if name_key(c) and c not in held_out] == []


def test_every_package_is_pinned() -> None:
    assert len(sets()) > 30
    for style, package in sets().items():
        assert package.file_name.startswith(f"iconify-json-{style}-")
        assert len(package.sha512) == 88
