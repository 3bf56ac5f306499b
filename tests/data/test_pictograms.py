"""Pictograms to learn from: what comes in, under which caption, and that nothing held out comes with it."""

from __future__ import annotations

import pytest

from clerestory.core.sample import TEST, TRAIN, Caption, Dataset, Sample
from clerestory.data.icons import open_icons
from clerestory.data.pictograms import HeldOutNames, _named, base_name, name_key, sets


def dataset(*samples: Sample) -> Dataset:
    return Dataset("few", samples, lambda sample: b"")


def shown(caption: str, split: str, *keywords: str) -> Sample:
    words = (Caption(caption), *(Caption(word, kind="keyword") for word in keywords))
    return Sample(caption, "0" * 64, words, caption.replace(" ", "-"), split=split)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("home-outline-24-filled", "home"), ("home", "home"), ("cloud-off", "cloud"), ("ice-cream-2-line", "ice-cream")],
)
def test_a_thing_is_its_name_without_the_manner_of_drawing(name: str, expected: str) -> None:
    assert base_name(name) == expected


def test_words_are_compared_in_the_singular_without_small_ones() -> None:
    assert name_key("Boxes of the berries") == name_key("berry box")
    assert name_key("glass") == {"glass"}
    assert name_key("face with 2 eyes") == {"eye"}


def test_what_a_held_out_concept_is_called_is_held() -> None:
    held = HeldOutNames(dataset(shown("red apple", TEST, "fruit"), shown("dog", TRAIN, "pet")))
    for name in ("apple", "red apple", "apple red juice", "fruit", "apples"):
        assert name_key(name) in held, name
    for name in ("apple juice", "dog", "pet", "fruit bowl", "table"):
        assert name_key(name) not in held, name


def test_names_that_are_no_things_and_third_drawings_stay_out() -> None:
    names = ["lamp", "lamp-outline", "lamp-filled", "brand-lamp", "apple", "letter-a", "arrow-up", "lamp-desk"]
    icon_set = {"icons": {name: {"body": "<path d='M0 0h9v9z'/>"} for name in names}}
    held = HeldOutNames(dataset(shown("red apple", TEST)))
    drawn = list(_named("few", icon_set["icons"], icon_set, "MIT", "few@1", held))
    assert [(d.name, d.caption) for d in drawn] == [
        ("lamp", "lamp"),
        ("lamp-desk", "lamp desk"),
        ("lamp-filled", "lamp"),
    ]
    assert {d.licence for d in drawn} == {"MIT"}


def test_every_held_out_caption_of_the_icons_is_held() -> None:
    icons = open_icons()
    held = HeldOutNames(icons)
    captions = {sample.caption for sample in icons if sample.split in ("test", "val")}
    assert len(captions) > 500
    assert [c for c in captions if name_key(c) and name_key(c) not in held] == []


def test_every_package_is_pinned() -> None:
    assert len(sets()) > 30
    for style, package in sets().items():
        assert package.file_name.startswith(f"iconify-json-{style}-")
        assert len(package.sha512) == 88
