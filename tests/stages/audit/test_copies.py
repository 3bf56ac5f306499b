"""Copies of every kind are found among photographs, and nothing else is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageEnhance

from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.data.images import decode_image
from clerestory.stages.audit import image_findings as codes
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.copies_check import check_copies, leaked_samples
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.store.answer_cache import AnswerCache

Change = Callable[[Image.Image], Image.Image]


def with_bar(image: Image.Image) -> Image.Image:
    framed = Image.new("RGB", (image.width, round(image.height * 1.15)), "white")
    framed.paste(image)
    ImageDraw.Draw(framed).text((8, image.height + 4), "a text under the picture", fill="black")
    return framed


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((image.width // 20, image.height // 12, image.width * 17 // 20, image.height * 11 // 12))


NEAR: dict[str, Change] = {
    "smaller": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "upside-down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
}
PARTIAL: dict[str, Change] = {"cropped": cropped, "with-bar": with_bar}


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    data = open_data("photographs")
    return {Path(sample.id).stem: decode_image(data.read(sample)) for sample in data}


def saved(folder: Path, images: dict[str, Image.Image], quality: int = 90) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        image.convert("RGB").save(folder / f"{name}.jpg", quality=quality)


def check(data: Dataset, home: Path, leakage: bool = False, **settings: int) -> dict[str, Detection]:
    """The detections by code; ``leakage`` only on request, since a folder is divided into splits by chance."""
    facts, unreadable = read_image_facts(data, AnswerCache(home / "cache.db"), QUIET)
    assert unreadable == []
    detections = check_copies(data, facts, AuditConfig(**settings), QUIET)
    return {each.code.code: each for each in detections if leakage or each.code is not codes.LEAKAGE}


@pytest.mark.parametrize("change", NEAR)
def test_an_image_saved_in_another_way_is_a_near_duplicate(
    change: str, photographs: dict[str, Image.Image], tmp_path: Path
) -> None:
    saved(tmp_path / "photos", photographs)
    changed = {f"{name}-{change}": NEAR[change](image) for name, image in photographs.items()}
    saved(tmp_path / "photos", changed, quality=40)
    found = check(open_data(str(tmp_path / "photos")), tmp_path)
    assert set(found) == {codes.NEAR_DUPLICATES.code}
    assert {frozenset(group) for group in found[codes.NEAR_DUPLICATES.code].groups} == {
        frozenset({f"{name}.jpg", f"{name}-{change}.jpg"}) for name in photographs
    }


@pytest.mark.parametrize("change", PARTIAL)
def test_a_crop_or_a_framed_copy_is_found(change: str, photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    saved(tmp_path / "photos", photographs)
    saved(tmp_path / "photos", {f"{name}-{change}": PARTIAL[change](image) for name, image in photographs.items()})
    found = check(open_data(str(tmp_path / "photos")), tmp_path)
    groups = {frozenset(group) for code in found.values() for group in code.groups}
    assert groups == {frozenset({f"{name}.jpg", f"{name}-{change}.jpg"}) for name in photographs}
    assert len(found[codes.CROPS.code].groups) >= len(photographs) - 2  # a small bar may leave the hash alike


def test_different_photographs_have_no_finding(photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    saved(tmp_path / "photos", photographs)
    assert check(open_data(str(tmp_path / "photos")), tmp_path) == {}


def test_the_same_drawing_in_two_colours_is_two_images(tmp_path: Path) -> None:
    def car(colour: str) -> Image.Image:
        image = Image.new("RGB", (200, 140), "white")
        draw = ImageDraw.Draw(image)
        draw.rectangle((20, 50, 180, 100), fill=colour)
        draw.rectangle((60, 25, 140, 50), fill=colour)
        draw.ellipse((40, 85, 75, 120), fill="black")
        draw.ellipse((125, 85, 160, 120), fill="black")
        return image

    # Of the same brightness.
    saved(tmp_path / "cars", {"red": car("#c83232"), "blue": car("#3264d2")})
    saved(tmp_path / "cars", {"red-again": car("#c83232")}, quality=40)
    found = check(open_data(str(tmp_path / "cars")), tmp_path, min_structure=0)
    assert [set(group) for group in found[codes.NEAR_DUPLICATES.code].groups] == [{"red.jpg", "red-again.jpg"}]


def test_the_same_pixels_in_another_file_are_an_exact_copy(photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    image = photographs["cat"]
    for name, level in (("one", 1), ("two", 9)):
        image.save(folder / f"{name}.png", compress_level=level)
    (folder / "three.png").write_bytes((folder / "one.png").read_bytes())
    image.rotate(1).save(folder / "other.png")
    found = check(open_data(str(folder)), tmp_path)
    assert {frozenset(group) for group in found[codes.EXACT_COPIES.code].groups} == {
        frozenset({"one.png", "two.png", "three.png"})
    }


def test_a_copy_in_another_split_is_leakage(photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    saved(tmp_path / "train", photographs)
    saved(
        tmp_path / "test",
        {"cat-again": NEAR["mirrored"](photographs["cat"]), "new": NEAR["turned"](photographs["cat"])},
    )
    saved(tmp_path / "test", {"sheep-again": cropped(photographs["sheep"])})
    found = check(open_data(str(tmp_path)), tmp_path, leakage=True)
    leakage = found[codes.LEAKAGE.code]
    # A turned copy is a copy, too, in whatever split it is.
    assert set(leakage.samples) == {"test/cat-again.jpg", "test/new.jpg", "test/sheep-again.jpg"}
    assert leakage.finding().state == "fail"
    assert leaked_samples(found.values()) == leakage.samples
    assert {frozenset(group) for group in leakage.groups} == {
        frozenset({"train/cat.jpg", "test/cat-again.jpg", "test/new.jpg"}),
        frozenset({"train/sheep.jpg", "test/sheep-again.jpg"}),
    }


def test_copies_within_one_split_do_not_leak(photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    saved(tmp_path / "train", {"cat": photographs["cat"], "cat-again": photographs["cat"].reduce(2)})
    saved(tmp_path / "test", {"sheep": photographs["sheep"]})
    assert codes.LEAKAGE.code not in check(open_data(str(tmp_path)), tmp_path, leakage=True)


def test_crops_that_are_not_sought_are_said(photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    saved(tmp_path / "photos", photographs)
    found = check(open_data(str(tmp_path / "photos")), tmp_path, max_crop_images=5)
    left_out = found[codes.COMPARISONS_LEFT_OUT.code].finding()
    assert (left_out.state, left_out.reason, left_out.where) == ("not_run", "crops", "the dataset")
    assert f"max_crop_images={len(photographs)}" in left_out.fix


def test_plain_images_are_compared_by_their_bytes_only(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for name, colour in (("a", "red"), ("b", "red"), ("c", "#fe0000"), ("d", "blue")):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    found = check(open_data(str(folder)), tmp_path)
    assert [set(group) for group in found[codes.EXACT_COPIES.code].groups] == [{"a.png", "b.png"}]
    assert set(found) == {codes.EXACT_COPIES.code}


def test_the_facts_are_read_once(photographs: dict[str, Image.Image], tmp_path: Path) -> None:
    saved(tmp_path / "photos", photographs)
    data = open_data(str(tmp_path / "photos"))
    cache = AnswerCache(tmp_path / "cache.db")
    first, _ = read_image_facts(data, cache, QUIET)
    read: list[str] = []
    again = Dataset(data.name, data.samples, lambda sample: read.append(sample.id) or data.read(sample))
    second, unreadable = read_image_facts(again, cache, QUIET)
    assert first.tobytes() == second.tobytes()
    assert (read, unreadable) == ([], [])
    image = io.BytesIO()
    photographs["cat"].rotate(45).save(image, "JPEG")
    (tmp_path / "photos" / "new.jpg").write_bytes(image.getvalue())
    grown = open_data(str(tmp_path / "photos"))
    again = Dataset(grown.name, grown.samples, lambda sample: read.append(sample.id) or grown.read(sample))
    read_image_facts(again, cache, QUIET)
    assert read == ["new.jpg"]
