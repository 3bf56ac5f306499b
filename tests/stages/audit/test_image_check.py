"""What is odd about single images, and nothing about ordinary ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from clerestory.core.progress import QUIET
from clerestory.data import open_data
from clerestory.data.images import decode_image
from clerestory.stages.audit import image_findings as codes
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.image_check import check_images
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.store.answer_cache import AnswerCache


def check(folder: Path, **settings: float) -> dict[str, Detection]:
    data = open_data(str(folder))
    facts, unreadable = read_image_facts(data, AnswerCache(folder.parent / "cache.db"), QUIET)
    return {each.code.code: each for each in check_images(data, facts, unreadable, AuditConfig(**settings))}


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    data = open_data("photographs")
    return decode_image(data.read(data["coffee.png"]))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def with_exif(gps: bool) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "a camera"
    if gps:
        exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    return exif.tobytes()


def save(folder: Path, name: str, image: Image.Image, **options: object) -> None:
    folder.mkdir(exist_ok=True)
    image.save(folder / name, **options)


ODD: dict[str, tuple[str, Callable[[Image.Image], Image.Image], dict[str, object]]] = {
    codes.TINY.code: ("odd.png", lambda image: image.resize((20, 40)), {}),
    codes.VERY_LARGE.code: ("odd.png", lambda image: Image.new("L", (9000, 40), 5).convert("RGB"), {}),
    codes.ODD_ASPECT.code: ("odd.jpg", lambda image: image.resize((800, 100)), {}),
    codes.BLANK.code: ("odd.png", lambda image: Image.new("RGB", (300, 200), "#f0f0e8"), {}),
    codes.BLURRED.code: ("odd.jpg", lambda image: image.filter(ImageFilter.GaussianBlur(8)), {}),
    codes.DARK.code: ("odd.jpg", lambda image: image.point(lambda value: value // 12), {}),
    codes.CMYK.code: ("odd.jpg", lambda image: image.convert("CMYK"), {}),
    codes.GPS.code: ("odd.jpg", lambda image: image, {"exif": with_exif(gps=True)}),
    codes.EXIF.code: ("odd.png", lambda image: image, {"exif": with_exif(gps=False)}),
}


@pytest.mark.parametrize("code", ODD)
def test_an_odd_image_is_found_among_ordinary_ones(code: str, photograph: Image.Image, tmp_path: Path) -> None:
    name, change, options = ODD[code]
    save(tmp_path / "images", "ordinary.jpg", photograph)
    save(tmp_path / "images", name, change(photograph), **options)
    found = check(tmp_path / "images")
    assert found[code].samples == (name,)
    assert "ordinary.jpg" not in {sample for each in found.values() for sample in each.samples}


def test_the_same_odd_facts_in_webp(photograph: Image.Image, tmp_path: Path) -> None:
    save(tmp_path / "images", "gps.webp", photograph, exif=with_exif(gps=True))
    frames = [photograph.resize((64, 64)), photograph.resize((64, 64)).transpose(Image.Transpose.ROTATE_90)]
    save(tmp_path / "images", "moving.webp", frames[0], save_all=True, append_images=frames[1:], duration=100)
    save(tmp_path / "images", "seen-through.webp", noise(64, 64).convert("RGBA").point(lambda value: value // 2))
    found = check(tmp_path / "images")
    assert found[codes.GPS.code].samples == ("gps.webp",)
    assert found[codes.ANIMATED.code].samples == ("moving.webp",)
    assert "seen-through.webp" in found[codes.TRANSPARENT.code].samples


def test_a_file_with_the_wrong_ending_is_named_with_its_format(photograph: Image.Image, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for name, kind in (("right.jpeg", "JPEG"), ("right.PNG", "PNG"), ("wrong.jpg", "PNG"), ("also.png", "WEBP")):
        content = io.BytesIO()
        photograph.reduce(2 if kind == "JPEG" else 3 if name == "right.PNG" else 4).save(content, kind)
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.getvalue())
    found = check(folder)[codes.WRONG_EXTENSION.code]
    assert dict(found.notes) == {"wrong.jpg": "PNG", "also.png": "WEBP"}


def test_coordinates_are_counted_and_never_told(photograph: Image.Image, tmp_path: Path) -> None:
    save(tmp_path / "images", "place.jpg", photograph, exif=with_exif(gps=True))
    finding = check(tmp_path / "images")[codes.GPS.code].finding()
    assert (finding.state, finding.count) == ("fail", 1)
    assert not {"52", "31", "12"} & set(str(finding).replace(",", " ").split())


def test_damaged_metadata_stops_nothing(photograph: Image.Image, tmp_path: Path) -> None:
    content = io.BytesIO()
    photograph.save(content, "JPEG", exif=with_exif(gps=True))
    start = content.getvalue().index(b"Exif\0\0") + len(b"Exif\0\0MM\0*")  # of the place of the first table
    broken = bytearray(content.getvalue())
    broken[start : start + 4] = b"\xff" * 4
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.jpg").write_bytes(broken)
    assert codes.GPS.code not in check(tmp_path / "images")


def test_the_limits_are_settings(photograph: Image.Image, tmp_path: Path) -> None:
    save(tmp_path / "images", "ordinary.jpg", photograph)
    assert codes.TINY.code in check(tmp_path / "images", min_side=5000)
    assert codes.BLURRED.code in check(tmp_path / "images", min_sharpness=50.0)


def test_an_image_that_has_gone_since_is_named(photograph: Image.Image, tmp_path: Path) -> None:
    save(tmp_path / "images", "here.jpg", photograph)
    save(tmp_path / "images", "gone.jpg", photograph.reduce(2))
    data = open_data(str(tmp_path / "images"))
    (tmp_path / "images" / "gone.jpg").unlink()
    facts, unreadable = read_image_facts(data, AnswerCache(tmp_path / "cache.db"), QUIET)
    (found,) = check_images(data, facts, unreadable, AuditConfig())
    assert (found.code, found.samples) == (codes.UNREADABLE_NOW, ("gone.jpg",))
