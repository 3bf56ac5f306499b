"""The engines that read text and find faces in images; they are extras, and load when they are opened.

Both run offline: the models are in the packages. A box is (left, top, right, bottom) in fractions of the width and the
height of the image, so it holds for an image of any size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from clerestory.core.errors import MissingExtra

Box = tuple[float, float, float, float]
MAX_OCR_SIDE = 2000  # pixels; the detector of RapidOCR works at no more
MAX_FACE_SIDE = 1024  # pixels; a face of 5 % of the shorter side is then large enough
MIN_FACE_SHARE, MIN_FACE_PIXELS = 0.05, 24
# Of 40 photographs without people this cascade takes 1 for a face, the default one 5 with 8 neighbours; both find the
# same share of the faces (bench/data_image_content.py).
CASCADE, MIN_NEIGHBOURS = "haarcascade_frontalface_alt.xml", 5


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text in an image.

    Attributes:
        text: as it was read; it may contain personal data, so it is neither printed nor stored.
        box: around it.
    """

    text: str
    box: Box


class TextReader(Protocol):
    """Reads the text in images (OCR)."""

    @property
    def name(self) -> str:
        """The engine with its version."""

    def read(self, image: Image.Image) -> list[TextLine]:
        """The lines of text in an upright RGB image."""


class FaceDetector(Protocol):
    """Finds faces in images."""

    @property
    def name(self) -> str:
        """The engine with its version."""

    def detect(self, image: Image.Image) -> list[Box]:
        """The faces in an upright RGB image."""


class RapidOcrReader:
    """RapidOCR with the PP-OCR models in its wheel, on onnxruntime.

    Raises:
        MissingExtra: it is not installed.
    """

    def __init__(self) -> None:
        try:
            import onnxruntime  # noqa: F401  # RapidOCR loads it with the first image only
            from rapidocr import RapidOCR
        except ImportError as error:
            raise MissingExtra(
                "reading the text in images needs the packages rapidocr and onnxruntime, which are not installed",
                "pip install 'clerestory[ocr]'",
            ) from error
        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
        # Its result depends on which steps are requested; here all of them, so it has boxes and texts.
        self._engine: Any = RapidOCR(params={"Global.log_level": "critical"})
        self.name = f"rapidocr {version('rapidocr')}"

    def read(self, image: Image.Image) -> list[TextLine]:
        """The lines of text in an upright RGB image."""
        image = _at_most(image, MAX_OCR_SIDE)
        result = self._engine(np.ascontiguousarray(np.asarray(image)[..., ::-1]))  # blue, green, red
        return lines_of(result.boxes, result.txts, image.size)


class HaarFaceDetector:
    """The cascade of Haar-like features for frontal faces in OpenCV (Viola and Jones 2001).

    It finds upright faces that look at the camera; it misses profiles, turned heads and covered faces, and takes some
    patterns for a face.

    Raises:
        MissingExtra: OpenCV is not installed, or its version has no cascades.
    """

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtra(
                "finding faces needs the package opencv-python-headless, which is not installed",
                "pip install 'clerestory[faces]'",
            ) from error
        folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
        if not hasattr(cv2, "CascadeClassifier") or not Path(folder, CASCADE).is_file():
            raise MissingExtra(
                f"finding faces needs OpenCV 4, and version {cv2.__version__} has no cascades for faces",
                "pip install 'clerestory[faces]'",
            )
        self._cascade = cv2.CascadeClassifier(str(Path(folder, CASCADE)))
        self.name = f"opencv {cv2.__version__} {Path(CASCADE).stem}"

    def detect(self, image: Image.Image) -> list[Box]:
        """The faces in an upright RGB image."""
        grey = np.asarray(_at_most(image, MAX_FACE_SIDE).convert("L"))
        height, width = grey.shape
        smallest = max(MIN_FACE_PIXELS, round(MIN_FACE_SHARE * min(width, height)))
        found = self._cascade.detectMultiScale(
            grey, scaleFactor=1.1, minNeighbors=MIN_NEIGHBOURS, minSize=(smallest, smallest)
        )
        return sorted((x / width, y / height, (x + w) / width, (y + h) / height) for x, y, w, h in _integers(found))


def lines_of(corners: Iterable[Any] | None, texts: Sequence[str] | None, size: tuple[int, int]) -> list[TextLine]:
    """The lines of an OCR result, from the top.

    Args:
        corners: the four corners (4, 2) of each line in pixels; None if there is no text.
        texts: of each line.
        size: width and height of the image in pixels.
    """
    if corners is None or texts is None:
        return []
    lines = []
    for points, text in zip(corners, texts, strict=True):
        shares = np.clip(np.asarray(points, dtype=np.float64) / size, 0.0, 1.0)
        (left, top), (right, bottom) = shares.min(axis=0), shares.max(axis=0)
        lines.append(TextLine(text, (float(left), float(top), float(right), float(bottom))))
    return sorted(lines, key=lambda line: (line.box[1], line.box[0]))


def _integers(boxes: Any) -> list[list[int]]:
    """The rectangles of OpenCV, which are an empty tuple if there are none."""
    return [[int(value) for value in box] for box in boxes]


def _at_most(image: Image.Image, side: int) -> Image.Image:
    """The image, scaled down if its longer side has more pixels."""
    factor = side / max(image.size)
    if factor >= 1:
        return image
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), reducing_gap=2)
