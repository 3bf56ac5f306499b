"""The three lists of duplicates, on images that are re-encoded, resized, cropped and recoloured."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont
from tests.support.pixel_model import PixelModel

from clerestory.apps.folder_index import FolderIndex
from clerestory.apps.folder_index.duplicates import HASH_BITS, DuplicateGroup, DuplicateLists, _near_hashes
from clerestory.store import open_store

SIZE = (320, 240)


def scene(number: int) -> Image.Image:
    """Smooth random colours, as different from one another as photographs are."""
    fields = np.random.default_rng(number).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(fields).resize(SIZE, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> DuplicateLists:
    folder = tmp_path_factory.mktemp("duplicates") / "photos"
    folder.mkdir()
    for number in range(60):
        scene(number).save(folder / f"{number:02d}.png")
    shutil.copy(folder / "00.png", folder / "00 copy.png")
    shutil.copy(folder / "00.png", folder / "00 again.png")
    scene(1).save(folder / "01 saved.jpg", quality=40)
    scene(1).resize((100, 75)).save(folder / "01 small.webp")
    shutil.copy(folder / "01 saved.jpg", folder / "01 saved copy.jpg")
    scene(2).crop((7, 5, 313, 235)).resize((640, 480)).save(folder / "02 cropped.jpg")
    blend = Image.blend(scene(3), scene(40), 0.6)
    blend.save(folder / "03 alike.png")
    for name, colour in {"blank red": "red", "blank blue": "blue"}.items():
        Image.new("RGB", SIZE, colour).save(folder / f"{name}.png")
    Image.new("RGB", (80, 60), "red").save(folder / "blank red small.png")
    with open_store(folder.with_name("home")) as store:
        index = FolderIndex.open(folder, store, PixelModel.digest, PixelModel.dims)
        index.update(PixelModel().embed_images)
        return index.duplicates(min_similarity=0.75)


def paths(groups: tuple[DuplicateGroup, ...]) -> list[list[str]]:
    return [list(group.paths) for group in groups]


def test_each_list_has_its_own_pictures(found: DuplicateLists) -> None:
    assert paths(found.same_bytes) == [
        ["00 again.png", "00 copy.png", "00.png"],
        ["01 saved copy.jpg", "01 saved.jpg"],
    ]
    assert sorted(map(sorted, paths(found.same_image))) == [
        ["01 saved copy.jpg", "01 small.webp", "01.png"],
        ["blank red small.png", "blank red.png"],
    ]
    kept = {group.keep for group in found.same_image}
    assert kept == {"01.png", "blank red.png"}  # the most pixels, then the most bytes
    (alike,) = (group for group in found.look_alike if "03.png" in group.paths)
    assert set(alike.paths) == {"03.png", "03 alike.png", "40.png"}  # the middle one is a blend
    assert min(alike.similarities) >= 0.75
    assert any({"02.png", "02 cropped.jpg"} <= set(group.paths) for group in found.look_alike)


def test_what_can_go_never_has_all_copies_of_a_picture(found: DuplicateLists) -> None:
    copies = found.copies()
    assert set(copies) == {
        *("00 copy.png", "00.png", "01 saved.jpg", "01 saved copy.jpg", "01 small.webp"),
        "blank red small.png",
    }


def page_of_text(numbers: list[int]) -> Image.Image:
    image = Image.new("RGB", (420, 594), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for line, number in enumerate(numbers):
        draw.text((20, 20 + 22 * line), f"Position {line + 1:02d}    {number}.00", fill="black", font=font)
    return image


def test_pages_of_one_layout_with_other_numbers_cannot_go(tmp_path: Path) -> None:
    folder = tmp_path / "invoices"
    folder.mkdir()
    numbers = np.random.default_rng(5).integers(1000, 9999, 24).tolist()
    for number in range(4):
        page_of_text([*numbers[:20], *(3 * number + n % 1000 + 1111 * number for n in numbers[20:])]).save(
            folder / f"{number}.png"
        )
    page_of_text([*numbers[:23], 8888]).save(folder / "one number.png")
    page_of_text([*numbers[:23], 1111]).save(folder / "another number.png")
    page_of_text([*numbers[:23], 1111]).save(folder / "another number saved.jpg", quality=70)
    with open_store(tmp_path / "home") as store:
        index = FolderIndex.open(folder, store, PixelModel.digest, PixelModel.dims)
        index.update(PixelModel().embed_images)
        hashes = index.snapshot.state.phashes.view(np.uint64)
        assert np.median(np.bitwise_count(hashes[:, None] ^ hashes)) <= HASH_BITS  # the pixels tell them apart
        assert index.duplicates().copies() == ("another number.png",)  # it has fewer bytes
        (folder / "another number saved.jpg").write_bytes((folder / "0.png").read_bytes())
        assert index.duplicates().copies() == ()  # what was indexed is no longer there to be kept


def test_an_edited_copy_never_makes_its_original_removable(tmp_path: Path) -> None:
    """In black and white, recoloured, or of another aspect: alike at most, even if it has more pixels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        scene(number).save(folder / f"{number}.png")
    scene(0).convert("L").resize((640, 480)).save(folder / "0 grey.jpg", quality=95)
    scene(1).resize((320, 300)).save(folder / "1 stretched.jpg", quality=95)
    ImageEnhance.Color(scene(2)).enhance(0.5).resize((480, 360)).save(folder / "2 pale.jpg", quality=95)
    with open_store(tmp_path / "home") as store:
        index = FolderIndex.open(folder, store, PixelModel.digest, PixelModel.dims)
        index.update(PixelModel().embed_images)
        found = index.duplicates(min_similarity=0.5)
    assert found.same_image == ()
    assert found.copies() == ()


def test_near_hashes_are_those_of_a_loop() -> None:
    draw = np.random.default_rng(0)
    base = draw.integers(0, 2**63, 40, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in draw.choice(64, n, replace=False)) for n in (0, 3, 8, 9, 12)]
    hashes = np.unique([value ^ np.uint64(flip) for value in base for flip in flips])
    wanted: dict[int, set[int]] = {}
    for one, other in combinations(hashes.tolist(), 2):
        if (one ^ other).bit_count() <= 8:
            wanted.setdefault(one, {one}).add(other)
            wanted.setdefault(other, {other}).add(one)
    assert {value: set(near) for value, near in _near_hashes(hashes).items()} == wanted
    assert len(wanted) > 80
