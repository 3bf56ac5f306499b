"""Which included model fits some images: real photographs and drawings, mixed folders, and what the cache saves."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from clerestory.apps.right_model import (
    DRAWING,
    OTHER,
    PHOTOGRAPH,
    ImageKinds,
    choose_model,
    dataset_kinds,
    file_kinds,
    folder_kinds,
    kinds_of,
)
from clerestory.apps.training_reference import count_unlike, starter_reference
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.models.photo.package import LOCATION
from clerestory.store import Store, open_store


@pytest.fixture(scope="module")
def photographs() -> Dataset:
    return open_data("photographs")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "home")


def test_photographs_and_drawings_are_told_apart_also_when_grey_or_compressed(
    photographs: Dataset, few_icons: Dataset
) -> None:
    for data, kind in ((photographs, PHOTOGRAPH), (few_icons, DRAWING)):
        images = [decode_sample(data, sample).convert("RGB") for sample in data.samples[::2][:8]]
        shown = images + [image.convert("L").convert("RGB") for image in images] + [_jpeg(image) for image in images]
        right = [guess.kind == kind for guess in kinds_of(shown)]
        assert sum(right) >= len(right) - 1


def test_a_page_of_text_is_neither() -> None:
    page = Image.new("RGB", (600, 800), "white")
    for line in range(38):
        ImageDraw.Draw(page).text(
            (40, 20 + 20 * line), "the quick brown fox jumps over the lazy dog again " * 2, "black"
        )
    assert [guess.kind for guess in kinds_of([page])] == [OTHER]


def test_charts_and_diagrams_are_neither_also_when_small() -> None:
    pages = [Image.new("RGB", (480, 360), "white") for _ in range(3)]
    bars, lines, boxes = (ImageDraw.Draw(page) for page in pages)
    for chart in (bars, lines):
        chart.text((180, 8), "Sales by region and year", "black")
        chart.line((50, 40, 50, 320, 460, 320), "black")
        for y in range(40, 321, 40):
            chart.line((50, y, 460, y), "#dddddd")
            chart.text((20, y - 6), str(320 - y), "black")
    for i, (name, height) in enumerate({"north": 120, "south": 200, "east": 80, "west": 260}.items()):
        bars.rectangle((70 + 80 * i, 320 - height, 120 + 80 * i, 320), "#4472c4")
        bars.text((75 + 80 * i, 328), name, "black")
    for i, colour in enumerate(("#f8766d", "#00ba38", "#619cff")):
        lines.line([(50 + 24 * x, 280 - 60 * i - (x * 7 * (i + 2)) % 60) for x in range(18)], colour, 2)
    for i in range(4):
        boxes.rounded_rectangle((160, 10 + 90 * i, 320, 60 + 90 * i), 8, "#d5e8d4", "#333333")
        boxes.text((205, 28 + 90 * i), f"step {i + 1}", "black")
        boxes.line((240, 60 + 90 * i, 240, 100 + 90 * i), "black", 2)
    guesses = kinds_of(pages + [page.resize((128, 96)) for page in pages])
    assert [(guess.kind, guess.is_confident) for guess in guesses] == [(OTHER, True)] * 6


def test_a_folder_is_looked_at_once_and_then_only_its_new_files(
    photographs: Dataset, few_icons: Dataset, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for i, sample in enumerate(photographs.samples[:6]):
        decode_sample(photographs, sample).convert("RGB").save(folder / f"{i}.jpg")
    (folder / "broken.jpg").write_bytes(b"nothing")
    kinds = folder_kinds(store, folder)
    assert kinds is not None
    assert (kinds.main, kinds.num_checked) == (PHOTOGRAPH, 6)
    for i, sample in enumerate(few_icons.samples[:3]):
        decode_sample(few_icons, sample).save(folder / "sub" / f"{i}.png")
    mixed = folder_kinds(store, folder)
    assert mixed is not None
    assert mixed.confident == {DRAWING: 3, PHOTOGRAPH: 6}
    choice = choose_model(store, mixed)
    assert choice.ref == "photos"
    assert "6 of 9 images checked are photographs" in choice.notice
    assert "3 are drawings, which --model starter knows better" in choice.notice

    # Now everything is in the cache: the encoder, and torch with it, is not needed.
    monkeypatch.setenv(LOCATION, str(tmp_path))
    script = (
        "import sys; from pathlib import Path; from clerestory.apps.right_model import folder_kinds; "
        "from clerestory.store import open_store; "
        f"kinds = folder_kinds(open_store(Path({str(store.home)!r})), Path({str(folder)!r})); "
        "print(kinds.num_checked, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["9", "False"]


def test_one_sentence_says_which_model_is_used_and_why(store: Store) -> None:
    def sentence(*guesses: tuple[str, bool]) -> tuple[str, str, str]:
        choice = choose_model(store, ImageKinds.of(guesses))
        return choice.ref, choice.notice, choice.warning

    sure, thin = (PHOTOGRAPH, True), (PHOTOGRAPH, False)
    assert sentence(sure, sure) == ("photos", "these are photographs, so the included model photos is used", "")
    assert sentence(sure) == ("photos", "this is a photograph, so the included model photos is used", "")
    ref, notice, _ = sentence((DRAWING, True), (DRAWING, True))
    assert (ref, notice) == ("starter", "these are drawings, so the included model starter is used")
    ref, notice, _ = sentence(thin, thin, sure)
    assert ref == "photos"
    assert "probably photographs, but this is unsure" in notice
    ref, notice, warning = sentence((OTHER, True), (OTHER, False))
    assert notice == ""
    assert "screenshots, charts or documents, which neither of the included models knows" in warning
    assert choose_model(store, None).ref == choose_model(store, ImageKinds.of([])).ref == "starter"


def test_the_starter_is_warned_about_photographs_by_the_same_probe(
    photographs: Dataset, few_icons: Dataset, store: Store
) -> None:
    reference = starter_reference()
    assert reference is not None
    assert count_unlike(reference, photographs, store) == (15, 15)
    unlike, checked = count_unlike(reference, few_icons, store)
    assert unlike <= 1
    assert checked > 20


def test_without_the_weights_nothing_is_chosen(
    photographs: Dataset, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clerestory.apps import right_model

    picture = tmp_path / "picture.jpg"
    decode_sample(photographs, photographs.samples[0]).convert("RGB").save(picture)
    monkeypatch.setenv(LOCATION, str(tmp_path))
    monkeypatch.setenv("CLERESTORY_CACHE", str(tmp_path / "cache"))
    right_model.included_photos.cache_clear()
    try:
        assert file_kinds(store, [picture]) is None
        assert dataset_kinds(store, photographs.digest, lambda: photographs) is None
    finally:
        right_model.included_photos.cache_clear()


def _jpeg(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=40)
    return Image.open(out, formats=["JPEG"]).convert("RGB")
