"""Images as pages show them: the original bytes, or a small copy of a large image."""

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
from clerestory.data.images import decode_beside_requests
from clerestory.web.security import SECURITY_HEADERS

MAX_ORIGINAL_BYTES = 60_000  # a larger image is shown as a thumbnail
THUMBNAIL_SIDE = 480
LARGE_SIDE = 1_600
CACHE_BYTES = 32_000_000
IMMUTABLE = "private, max-age=31536000, immutable"
SHORT_LIVED = "private, max-age=300"


class ThumbnailCache:
    """The bytes of displayed images, in memory; the least recently used are evicted beyond ``max_bytes``."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._cached: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._decoding = threading.Lock()  # one at a time: a decoded image may take 75 MB

    def get(self, data: Dataset, sample: Sample, side: int = THUMBNAIL_SIDE) -> bytes:
        """The JPEG, PNG or WEBP bytes to show for a sample; a large image is shrunk to ``side`` pixels.

        Raises:
            UploadError: the image cannot be decoded.
        """
        key = (sample.image, side)
        with self._lock:
            if key in self._cached:
                self._cached.move_to_end(key)
                return self._cached[key]
        content = data.read(sample)
        if len(content) > MAX_ORIGINAL_BYTES or not content_type(content):
            with self._decoding:
                content = thumbnail(decode_beside_requests(content), side)
            self._put(key, content)
        return content

    def _put(self, key: tuple[str, int], content: bytes) -> None:
        with self._lock:
            if key not in self._cached:
                self._cached[key] = content
                self._size += len(content)
            while self._size > self.max_bytes:
                _, evicted = self._cached.popitem(last=False)
                self._size -= len(evicted)


def thumbnail(image: Image.Image, side: int = THUMBNAIL_SIDE) -> bytes:
    """A WEBP copy with sides of at most ``side`` pixels; the image itself is shrunk, too, to save memory."""
    image.thumbnail((side, side), reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=82, method=2)
    return out.getvalue()


def content_type(content: bytes) -> str:
    """The media type by the first bytes; empty if the format is not one that pages show."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return ""


async def image(request: Request) -> Response:
    """``GET /images/{sample id}``; ``?large=1`` for the large copy of a large image."""
    server = request.app.state.server
    if server.data is None:
        raise NotFound("the server was started without pictures", "start it with --data")
    # In a thread, since an unknown id is compared with all others.
    sample = await server.in_thread(server.data.__getitem__, request.path_params["sample"])
    side = LARGE_SIDE if request.query_params.get("large") else THUMBNAIL_SIDE
    etag = f'"{sample.image[:32]}-{side}"'
    version = request.query_params.get("v", "")
    headers = {"etag": etag, "cache-control": IMMUTABLE if version == sample.image[:12] else SHORT_LIVED}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return image_response(await asyncio.to_thread(server.thumbnails.get, server.data, sample, side), headers)


def image_response(content: bytes, headers: dict[str, str]) -> Response:
    """A response with an image; the sandbox keeps it inert when it is opened as a page."""
    policy = {**SECURITY_HEADERS, "content-security-policy": "default-src 'none'; sandbox"}
    headers = {"etag": f'"{digest_bytes(content)[:32]}"', **policy, **headers}
    return Response(content, headers=headers, media_type=content_type(content))
