"""Personal data in what images show: kinds and boxes, never values; each image is read once.

``PixelReader`` is a reader of its own kind: its images have one line of text in the grey values of each row. The tests
of the engines themselves need their extras, and are in ``test_image_engines.py``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clerestory.apps.audit_report import NOT_SHOWN, audit_findings, audit_page
from clerestory.apps.data_documents.record import dataset_record, personal_information
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.report.audit_page import render_audit
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.image_content import (
    check_faces,
    check_text_in_images,
    describe_boxes,
    describe_text,
)
from clerestory.stages.audit.image_engines import Box, TextLine, lines_of
from clerestory.stages.audit.personal_data import PersonalDataKind
from clerestory.stages.audit.run import audit
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import open_store
from clerestory.store.answer_cache import AnswerCache

EMAIL, PHONE, CARD, IBAN = "ada@example.org", "+49 30 901820", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"
WIDTH = 64


class PixelReader:
    """Reads the grey values of each row as characters; a black one ends the line."""

    name = "pixels 1"

    def __init__(self) -> None:
        self.count = 0

    def read(self, image: Image.Image) -> list[TextLine]:
        self.count += 1
        rows = np.asarray(image.convert("L"))
        texts = [bytes(row).split(b"\0")[0].decode("latin-1") for row in rows]
        height = len(rows)
        return [
            TextLine(text, (0.0, k / height, 0.5, (k + 1) / height)) for k, text in enumerate(texts) if text.strip()
        ]


class BrightSpots:
    """Takes a white pixel for a face."""

    name = "spots 1"

    def detect(self, image: Image.Image) -> list[Box]:
        rows, columns = np.nonzero(np.asarray(image.convert("L")) == 255)
        high, wide = image.height, image.width
        return [(x / wide, y / high, (x + 1) / wide, (y + 1) / high) for y, x in zip(rows, columns, strict=True)]


def write(folder: Path, name: str, *texts: str, seed: int = 0) -> None:
    """An image that ``PixelReader`` reads; the seed makes it different from others with the same text."""
    folder.mkdir(exist_ok=True)
    pixels = np.zeros((16, WIDTH), dtype=np.uint8)
    for row, text in enumerate(texts):
        pixels[row, : len(text)] = list(text.encode("latin-1"))
    pixels[15, 1:] = np.random.default_rng(seed).integers(1, 200, WIDTH - 1)
    Image.fromarray(pixels).save(folder / name)


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "answers.db")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    folder = tmp_path / "data"
    write(folder, "both.png", f"Write to {EMAIL}", f"or pay to {IBAN}")
    write(folder, "card.png", f"{CARD} is my card")
    write(folder, "copy.png", f"{CARD} is my card")
    write(folder, "none.png", "Fresh bread every day")
    write(folder, "phone.png", f"Call {PHONE}")
    return open_data(str(folder))


def test_each_kind_is_found_with_its_box_and_without_its_value(data: Dataset, cache: AnswerCache) -> None:
    check = check_text_in_images(data, PixelReader(), cache, AuditConfig())
    by_code = {each.code.code: each for each in check.detections}
    assert {code: [Path(s).name for s in each.samples] for code, each in by_code.items()} == {
        "CLR-A060": ["both.png"],
        "CLR-A061": ["phone.png"],
        "CLR-A062": ["card.png", "copy.png"],
        "CLR-A063": ["both.png"],
    }
    assert list(by_code["CLR-A063"].notes.values()) == ["at x 0.00 to 0.50, y 0.06 to 0.12"]
    assert by_code["CLR-A062"].message == "2 images of 5 that were read contain a payment card number"
    assert {each.checked for each in check.detections} == {5}
    assert not any(value in str(check) for value in (EMAIL, PHONE, CARD, IBAN, "example"))


def test_an_image_is_read_once_and_its_text_is_not_kept(data: Dataset, cache: AnswerCache) -> None:
    reader = PixelReader()
    first = check_text_in_images(data, reader, cache, AuditConfig())
    assert reader.count == 4  # two files are the same image
    assert check_text_in_images(data, reader, AnswerCache(cache.file), AuditConfig()) == first
    assert reader.count == 4
    stored = cache.file.read_bytes() + b"".join(path.read_bytes() for path in cache.file.parent.glob("*.db-wal"))
    assert not any(value.encode() in stored for value in (EMAIL, PHONE, CARD, IBAN, "Fresh bread"))
    reader.name = "pixels 2"
    check_text_in_images(data, reader, cache, AuditConfig())
    assert reader.count == 8


def test_an_interrupted_search_continues(data: Dataset, cache: AnswerCache) -> None:
    class Interrupted(PixelReader):
        def read(self, image: Image.Image) -> list[TextLine]:
            if self.count == 2:
                raise KeyboardInterrupt
            return super().read(image)

    with pytest.raises(KeyboardInterrupt):
        check_text_in_images(data, Interrupted(), cache, AuditConfig())
    reader = PixelReader()
    check_text_in_images(data, reader, cache, AuditConfig())
    assert reader.count == 2


def test_of_many_images_the_same_sample_is_read_also_when_the_data_grows(tmp_path: Path, cache: AnswerCache) -> None:
    for seed in range(12):
        write(tmp_path / "data", f"{seed}.png", EMAIL, seed=seed)
    reader, config = PixelReader(), AuditConfig(ocr_images=5)
    small = check_text_in_images(open_data(str(tmp_path / "data")), reader, cache, config)
    assert (reader.count, len(small.searched)) == (5, 5)
    missing = next(each for each in small.detections if each.code.code == "CLR-A065")
    assert missing.message == "5 of 12 images were searched for text (ocr_images = 5)"
    assert (missing.reason, missing.fix) == ("text", "search all of them with --set ocr_images=12")
    write(tmp_path / "data", "new.png", EMAIL, seed=99)
    grown = check_text_in_images(open_data(str(tmp_path / "data")), reader, cache, config)
    assert len(grown.searched & small.searched) >= 4
    assert reader.count <= 6


def test_an_image_that_has_gone_is_not_counted_as_read(data: Dataset, cache: AnswerCache, tmp_path: Path) -> None:
    (tmp_path / "data" / "phone.png").unlink()
    check = check_text_in_images(data, PixelReader(), cache, AuditConfig())
    assert len(check.searched) == 4
    assert "4 of 5 images" in next(each.message for each in check.detections if each.code.code == "CLR-A065")


def test_faces_are_counted(tmp_path: Path, cache: AnswerCache) -> None:
    for name, spots in {"a.png": [(3, 4), (8, 60)], "b.png": []}.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        pixels = np.full((16, WIDTH), 90 + len(spots), dtype=np.uint8)
        for spot in spots:
            pixels[spot] = 255
        Image.fromarray(pixels).save(tmp_path / "data" / name)
    (found,) = check_faces(open_data(str(tmp_path / "data")), BrightSpots(), cache, AuditConfig()).detections
    assert found.message == "1 image of 2 that were searched shows 2 faces"
    assert list(found.notes.values()) == ["at x 0.06 to 0.08, y 0.19 to 0.25; x 0.94 to 0.95, y 0.50 to 0.56"]


def test_shares_are_of_the_searched_images_and_follow_from_the_rows(tmp_path: Path) -> None:
    for seed in range(12):
        write(tmp_path / "data", f"{seed}.png", "nothing", seed=seed)
    store = open_store(tmp_path / "home")
    data = open_data(str(tmp_path / "data"))
    evidence = audit(data, store, AuditConfig(ocr_images=5), text_reader=PixelReader()).evidence
    share = evidence.find("affected", {"finding": "CLR-A060"})
    assert share is not None
    assert (share.value, share.n) == (0.0, 5)
    assert share.interval is not None
    assert share.interval.high > 0.1  # nothing in five images shows little about the others
    rows = read_rows(store.blobs.get(evidence.rows))
    assert [recompute(rows, each) for each in evidence.measurements] == list(evidence.measurements)
    assert (evidence.facts["text_engine"], evidence.facts["text_images"]) == ("pixels 1", 5)
    assert (evidence.facts["face_engine"], evidence.facts["face_images"]) == ("", 0)
    without = audit(data, store, AuditConfig(ocr_images=5)).evidence
    assert without.subject.config != evidence.subject.config


def test_the_page_shows_no_small_copy_of_an_image_with_a_value(data: Dataset, tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    result = audit(data, store, AuditConfig(), text_reader=PixelReader())
    page = audit_page(data, result, AuditConfig())
    shown = {image.name: image.thumbnail for sheet in page.findings for image in sheet.images if image.name}
    assert {Path(name).name for name, uri in shown.items() if uri} <= {"none.png"}
    html = render_audit(page)
    assert html.count(NOT_SHOWN) >= 4
    assert "x 0.00 to 0.50" in html
    assert not any(value in html for value in (EMAIL, PHONE, CARD, IBAN))
    assert "5 images (pixels 1)" in html
    assert not any("--ocr" in line for line in page.not_checked)
    assert any("--faces" in line for line in page.not_checked)
    plain = audit_page(data, audit(data, store, AuditConfig()), AuditConfig())
    assert any("--ocr" in line for line in plain.not_checked)


def test_documents_and_the_terminal_say_how_many_images_were_searched(tmp_path: Path) -> None:
    for seed in range(12):
        write(tmp_path / "data", f"{seed}.png", EMAIL, seed=seed)
    store = open_store(tmp_path / "home")
    data = open_data(str(tmp_path / "data"))
    result = audit(data, store, AuditConfig(ocr_images=5), text_reader=PixelReader())
    found = next(f for f in audit_findings(result.evidence, result.detections) if f.finding.code == "CLR-A060")
    assert found.share(12) == "100.0% of 5 searched"
    lines = personal_information(dataset_record(data, store))
    assert lines[-2:] == [
        "Text in the images: checked in 5 of 12 with pixels 1.",
        "Faces in the images: not checked.",
    ]
    assert lines[0].startswith("CLR-A060")
    assert "no GPS position" not in " ".join(lines)


def _line(text: str, left: float, right: float, top: float = 0.1) -> TextLine:
    return TextLine(text, (left, top, right, top + 0.05))


def test_a_number_that_the_engine_divided_is_read_as_one() -> None:
    parts = [_line("0532 0130 00", 0.41, 0.6), _line("DE89 3704 0044", 0.1, 0.39)]
    ((kind, box),) = describe_text(parts).personal
    assert (kind, box) == (PersonalDataKind.IBAN, (0.1, 0.1, 0.6, pytest.approx(0.15)))


@pytest.mark.parametrize("other", [(0.8, 0.95, 0.1), (0.41, 0.6, 0.3)], ids=["far away", "on another line"])
def test_numbers_apart_are_not_put_together(other: tuple[float, float, float]) -> None:
    left, right, top = other
    parts = [_line("DE89 3704 0044", 0.1, 0.39), _line("0532 0130 00", left, right, top)]
    assert describe_text(parts).personal == ()


def test_national_numbers_are_found_by_the_languages() -> None:
    lines = [_line("Tel. 030 901820", 0.1, 0.5)]
    assert [kind for kind, _ in describe_text(lines, ["de"]).personal] == [PersonalDataKind.PHONE_NUMBER]
    assert describe_text(lines, ["en"]).personal == ()


def test_how_much_of_an_image_text_covers() -> None:
    page = [_line("words", 0.0, 1.0, top / 20) for top in range(0, 20, 2)]
    assert describe_text(page).covered == pytest.approx(0.5, abs=0.05)
    assert describe_text([*page, *page]).covered == describe_text(page).covered
    assert describe_text([]).covered == 0


CORNER = st.tuples(st.floats(-20, 700), st.floats(-20, 500))


@given(st.lists(st.lists(CORNER, min_size=4, max_size=4), max_size=4))
def test_boxes_are_fractions_around_every_corner(corners: list[list[tuple[float, float]]]) -> None:
    lines = lines_of([np.array(each) for each in corners], ["text"] * len(corners), (640, 480))
    assert len(lines) == len(corners)
    assert [line.box[1] for line in lines] == sorted(line.box[1] for line in lines)
    for line in lines:
        left, top, right, bottom = line.box
        assert 0 <= left <= right <= 1
        assert 0 <= top <= bottom <= 1


def test_no_text_is_no_lines() -> None:
    assert lines_of(None, None, (640, 480)) == []


def test_a_note_has_a_few_boxes_and_the_number_of_the_others() -> None:
    assert describe_boxes([(0, 0, 1, 1)] * 10).endswith("; and 2 more")


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [("--ocr", "rapidocr", "ocr"), ("--ocr", "onnxruntime", "ocr"), ("--faces", "cv2", "faces")],
)
def test_without_the_extra_it_is_one_sentence(tmp_path: Path, option: str, module: str, extra: str) -> None:
    write(tmp_path / "data", "a.png", "words")
    code = (
        f"import sys; sys.modules[{module!r}] = None; from clerestory.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "data",
        "audit",
        str(tmp_path / "data"),
        option,
        "--home",
        str(tmp_path / "h"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert f"pip install 'clerestory[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
