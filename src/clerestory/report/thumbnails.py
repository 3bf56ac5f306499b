"""Small copies of pictures as data URIs, few and light enough for one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from clerestory.core.errors import ClerestoryError
from clerestory.core.sample import Sample
from clerestory.data.images import decode_image

SIDE = 96
MOST_BYTES, MOST_TOTAL = 8_000, 1_200_000


class Thumbnails:
    """Makes each picture's thumbnail once; stops when ``MOST_TOTAL`` bytes of data URIs are made."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}
        self._total = 0

    def of(self, sample: Sample, read: Callable[[Sample], bytes]) -> str:
        """The thumbnail of a sample's picture; empty when it cannot be read or there is no room left."""
        if sample.image not in self._made:
            self._made[sample.image] = self._make(sample, read)
        uri = self._made[sample.image]
        if self._total + len(uri) > MOST_TOTAL:
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
            if out.tell() <= MOST_BYTES:
                return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
        return ""
