"""Pictures as the pages show them: the data set's own bytes, or a small copy where they are large."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import OrderedDict

from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import NotFound
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.web.security import SECURITY_HEADERS

SMALL_BYTES = 60_000
SIDE = 480
KEPT_BYTES = 32_000_000
FOR_EVER = "private, max-age=31536000, immutable"
A_WHILE = "private, max-age=300"


class Thumbnails:
    """Small copies, the most recently used of them kept in memory up to a number of bytes."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most = most
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()  # a decoded picture may take 75 MB

    def of(self, data: Dataset, sample: Sample) -> bytes:
        """The bytes to show of a sample's picture: JPEG, PNG or WEBP.

        Raises:
            UploadError: the picture cannot be decoded.
        """
        with self._lock:
            if sample.image in self._kept:
                self._kept.move_to_end(sample.image)
                return self._kept[sample.image]
        content = data.read(sample)
        if len(content) > SMALL_BYTES or not content_type(content):
            with self._one_at_a_time:
                content = small(decode_image(content))
            self._keep(sample.image, content)
        return content

    def _keep(self, key: str, content: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = content
                self._size += len(content)
            while self._size > self.most:
                _, gone = self._kept.popitem(last=False)
                self._size -= len(gone)


def small(picture: Image.Image) -> bytes:
    """A WEBP copy that is no larger than a page shows it."""
    copy = picture.copy()
    copy.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    out = io.BytesIO()
    copy.save(out, "WEBP", quality=82, method=2)
    return out.getvalue()


def content_type(content: bytes) -> str:
    """The type of a picture by its first bytes, empty when it is none that pages show."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return ""


async def picture(request: Request) -> Response:
    """``GET /pictures/{sample id}``."""
    site = request.app.state.site
    if site.data is None:
        raise NotFound("this server shows no pictures", "start it with --data")
    sample = site.data[request.path_params["sample"]]
    etag = f'"{sample.image[:32]}"'
    asked = request.query_params.get("v", "")
    headers = {"etag": etag, "cache-control": FOR_EVER if asked == sample.image[:12] else A_WHILE}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return picture_response(await asyncio.to_thread(site.thumbnails.of, site.data, sample), headers)


def picture_response(content: bytes, headers: dict[str, str]) -> Response:
    """A picture that stays a picture even when it is opened by itself."""
    policy = {**SECURITY_HEADERS, "content-security-policy": "default-src 'none'; sandbox"}
    headers = {"etag": f'"{digest_bytes(content)[:32]}"', **policy, **headers}
    return Response(content, headers=headers, media_type=content_type(content))
