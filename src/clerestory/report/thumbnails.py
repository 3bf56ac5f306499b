"""Small copies of images as data URIs, few and small enough for one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from clerestory.core.errors import ClerestoryError
from clerestory.core.sample import Sample
from clerestory.data.images import decode_image

SIDE, CONTACT_SIDE = 96, 160
MAX_BYTES, MAX_TOTAL_BYTES = 8_000, 1_200_000


class ReportThumbnails:
    """Makes each image's thumbnail once; stops after ``MAX_TOTAL_BYTES`` of data URIs."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}
        self._total = 0

    def of(self, sample: Sample, read: Callable[[Sample], bytes]) -> str:
        """The thumbnail of a sample's image; empty when it cannot be read or the limit is reached."""
        if sample.image not in self._made:
            self._made[sample.image] = self._make(sample, read)
        uri = self._made[sample.image]
        if self._total + len(uri) > MAX_TOTAL_BYTES:
            return ""
        self._total += len(uri)
        return uri

    def _make(self, sample: Sample, read: Callable[[Sample], bytes]) -> str:
        try:
            image = decode_image(read(sample))
        except (ClerestoryError, OSError, KeyError):
            return ""
        image.thumbnail((SIDE, SIDE))
        for quality in (82, 60, 35):
            out = io.BytesIO()
            image.save(out, "WEBP", quality=quality, method=4)
            if out.tell() <= MAX_BYTES:
                return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
        return ""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small copy of an image for a contact sheet.

    Attributes:
        uri: a JPEG as a data URI, without metadata.
        size: its width and height, in pixels.
        original: the width and height of the image, upright.
        num_bytes: of the file of the image.
    """

    uri: str
    size: tuple[int, int]
    original: tuple[int, int]
    num_bytes: int


def thumbnail(read: Callable[[], bytes], max_bytes: int) -> Thumbnail | None:
    """A thumbnail of at most ``CONTACT_SIDE`` pixels whose data URI has at most ``max_bytes``.

    Returns:
        None if the image cannot be read, or does not fit.
    """
    try:
        content = read()
        image = decode_image(content, enough=CONTACT_SIDE)
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as file:
            original = file.size
    except (ClerestoryError, OSError, KeyError):
        return None
    if (original[0] < original[1]) != (image.width < image.height):  # stored on its side
        original = original[::-1]
    for side, quality in ((160, 78), (160, 60), (160, 40), (120, 50), (96, 40), (64, 30), (48, 20)):
        image.thumbnail((side, side))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, optimize=True, exif=b"", comment=b"", icc_profile=None)
        uri = "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
        if len(uri) <= max_bytes:
            return Thumbnail(uri, image.size, original, len(content))
    return None
