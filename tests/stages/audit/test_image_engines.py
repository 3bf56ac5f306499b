"""The engines themselves, on drawn text; each test needs the extra of its engine, and is skipped without it."""

from __future__ import annotations

import socket
import warnings
from typing import NoReturn

import pytest
from PIL import Image
from tests.support.drawn_text import draw_text

from clerestory.stages.audit.image_content import describe_text
from clerestory.stages.audit.image_engines import HaarFaceDetector, RapidOcrReader
from clerestory.stages.audit.personal_data import PersonalDataKind

LINES = ("Call +49 30 901820 today", "mail ada@example.org", "IBAN DE89 3704 0044 0532 0130 00")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("an engine opens a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def reader() -> RapidOcrReader:
    pytest.importorskip("rapidocr", reason="needs the extra: pip install 'clerestory[ocr]'", exc_type=ImportError)
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install 'clerestory[ocr]'", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        return RapidOcrReader()


@pytest.fixture(scope="module")
def detector() -> HaarFaceDetector:
    pytest.importorskip("cv2", reason="needs the extra: pip install 'clerestory[faces]'", exc_type=ImportError)
    return HaarFaceDetector()


def test_drawn_text_is_read_where_it_stands(
    reader: RapidOcrReader, no_network: None, capfd: pytest.CaptureFixture[str]
) -> None:
    text = describe_text(reader.read(draw_text(LINES, 24)))
    boxes = dict(text.personal)
    assert list(boxes) == [PersonalDataKind.PHONE_NUMBER, PersonalDataKind.EMAIL_ADDRESS, PersonalDataKind.IBAN]
    for line, box in enumerate(boxes.values()):
        middle = (24 + line * 48 + 12) / 400
        assert box[1] < middle < box[3]
        assert box[0] < 0.1
    assert capfd.readouterr() == ("", "")


def test_an_image_without_text_has_no_lines(reader: RapidOcrReader, no_network: None) -> None:
    assert reader.read(Image.new("RGB", (300, 200), "grey")) == []
    assert describe_text(reader.read(Image.new("RGB", (1, 1)))).personal == ()


def test_no_face_is_found_in_text_and_plain_areas(detector: HaarFaceDetector) -> None:
    assert detector.detect(draw_text(LINES, 24)) == []
    assert detector.detect(Image.new("RGB", (3000, 20), "grey")) == []
    assert detector.name.startswith("opencv 4.")
