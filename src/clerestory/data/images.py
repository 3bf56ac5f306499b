"""Pictures from anywhere, made safe: JPEG, PNG or WEBP bytes in, upright RGB out, or one sentence why not."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile, ImageOps

from clerestory.core.errors import UploadError

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 25_000_000
_FILTERS = threading.Lock()
_STARTS = {"JPEG": (b"\xff\xd8\xff",), "PNG": (b"\x89PNG\r\n\x1a\n",), "WEBP": (b"RIFF",)}


def decode_image(content: bytes) -> Image.Image:
    """Decode a picture as upright RGB; transparency is laid on white, an animation gives its first frame.

    What it is, is judged by its content, never by a name. Its size is checked before any pixel is decoded.

    Args:
        content: the encoded bytes of a JPEG, PNG or WEBP picture.

    Raises:
        UploadError: with HTTP status 415 (not one of the three formats), 413 (more than 25 megapixels) or 400
            (damaged, cut off or empty).
    """
    return _open(content, _plain)


def check_image(content: bytes) -> None:
    """Raise what ``decode_image`` would raise, in a fraction of its time for large photographs.

    The whole file is still decoded, so a cut-off one is found; a JPEG only at an eighth of its size.
    """
    _open(content, lambda picture: picture, quick=True)


def _open(content: bytes, use: Callable[[Image.Image], Image.Image], quick: bool = False) -> Image.Image:
    kind = _kind(content)
    try:
        with _no_warnings():
            picture = Image.open(io.BytesIO(content), formats=[kind])
        with picture:
            _check_size(picture.size)
            if quick:
                picture.draft("RGB", (picture.width // 8, picture.height // 8))
            picture.load()
            return use(picture)
    except UploadError:
        raise
    except Image.DecompressionBombError:
        raise _too_large() from None
    except Exception as error:  # a decoder met bytes nobody foresaw: the picture is at fault, not the caller
        raise _damaged(error) from None


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Without Pillow's warnings of large pictures and odd metadata: the limit here is stricter, metadata is not used.

    Filters are global to the process, hence the lock; decoding itself happens outside of it.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _kind(content: bytes) -> str:
    if not content:
        raise UploadError("the picture is empty", "send a JPEG, PNG or WEBP picture", 400)
    for kind, starts in _STARTS.items():
        if content.startswith(starts) and (kind != "WEBP" or content[8:12] == b"WEBP"):
            return kind
    raise UploadError("this is not a JPEG, PNG or WEBP picture", "save it as one of these three and try again", 415)


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise _too_large(f" ({size[0]}×{size[1]})")


def _too_large(shown: str = "") -> UploadError:
    return UploadError(f"the picture has more than 25 megapixels{shown}", "make it smaller and try again", 413)


def _damaged(error: Exception) -> UploadError:
    detail = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
    return UploadError(f"the picture is damaged or cut off ({detail})", "save it again, or choose another", 400)


def _plain(picture: Image.Image) -> Image.Image:
    """RGB, upright, on white."""
    with _no_warnings():
        upright: Image.Image = ImageOps.exif_transpose(picture) or picture
    if upright.mode.startswith("I") or upright.mode == "F":
        # 16 bits a channel: Pillow's own conversion would clip at 255 instead of scaling.
        upright = upright.convert("I").point(lambda value: value / 257).convert("L")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")


# A cut-off file must be refused, not filled with grey; other libraries may have switched this on.
ImageFile.LOAD_TRUNCATED_IMAGES = False
