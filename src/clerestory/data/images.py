"""Safe decoding of untrusted images: from JPEG, PNG or WEBP bytes to upright RGB, or an error in one sentence."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile, ImageOps

from clerestory.core.errors import UploadError

MAX_PIXELS = 25_000_000
_WARNINGS_LOCK = threading.Lock()
_SIGNATURES = {"JPEG": (b"\xff\xd8\xff",), "PNG": (b"\x89PNG\r\n\x1a\n",), "WEBP": (b"RIFF",)}


def decode_image(content: bytes) -> Image.Image:
    """Decode an image as upright RGB; transparency is composited on white, of an animation the first frame is used.

    The format is detected from the content, never from a file name. The size is checked before any pixel is decoded.

    Args:
        content: the encoded bytes of a JPEG, PNG or WEBP image.

    Raises:
        UploadError: with HTTP status 415 (not one of the three formats), 413 (more than 25 megapixels) or 400
            (damaged, truncated or empty).
    """
    return _open(content, _upright_rgb)


def check_image(content: bytes) -> None:
    """Raise what ``decode_image`` would raise, in a fraction of its time for large photographs.

    The whole file is still decoded, so a truncated one is detected; a JPEG only at an eighth of its size.
    """
    _open(content, lambda image: image, quick=True)


def _open(content: bytes, convert: Callable[[Image.Image], Image.Image], quick: bool = False) -> Image.Image:
    format_ = _detect_format(content)
    try:
        with _no_warnings():
            image = Image.open(io.BytesIO(content), formats=[format_])
        with image:
            _check_size(image.size)
            if quick:
                image.draft("RGB", (image.width // 8, image.height // 8))
            image.load()
            return convert(image)
    except UploadError:
        raise
    except Image.DecompressionBombError:
        raise _too_large() from None
    except Exception as error:  # a decoder may raise any exception on malformed bytes
        raise _damaged(error) from None


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about large images and odd metadata: our limit is stricter, metadata is not used.

    Filters are global to the process, hence the lock; decoding itself happens outside it.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _detect_format(content: bytes) -> str:
    if not content:
        raise UploadError("the image is empty", "send a JPEG, PNG or WEBP image", 400)
    for format_, signatures in _SIGNATURES.items():
        if content.startswith(signatures) and (format_ != "WEBP" or content[8:12] == b"WEBP"):
            return format_
    raise UploadError("this is not a JPEG, PNG or WEBP image", "save it as one of these three and try again", 415)


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(f" ({size[0]}×{size[1]})")


def _too_large(size: str = "") -> UploadError:
    return UploadError(f"the image has more than 25 megapixels{size}", "make it smaller and try again", 413)


def _damaged(error: Exception) -> UploadError:
    detail = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
    return UploadError(f"the image is damaged or truncated ({detail})", "save it again, or choose another", 400)


def _upright_rgb(image: Image.Image) -> Image.Image:
    with _no_warnings():
        upright: Image.Image = ImageOps.exif_transpose(image) or image
    if upright.mode.startswith("I") or upright.mode == "F":
        # 16 bits a channel: Pillow's own conversion would clip at 255 instead of scaling.
        upright = upright.convert("I").point(lambda value: value / 257).convert("L")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")


# A truncated file must be an error, not filled with grey; other libraries may have enabled that.
ImageFile.LOAD_TRUNCATED_IMAGES = False
