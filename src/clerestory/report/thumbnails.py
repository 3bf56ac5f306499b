"""Small copies of images as data URIs, few and small enough for one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from clerestory.core.errors import ClerestoryError
from clerestory.core.sample import Sample
from clerestory.data.images import decode_image

SIDE = 96
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
