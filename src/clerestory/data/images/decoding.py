"""Safe decoding of untrusted images: from JPEG, PNG or WEBP bytes to upright RGB, or an error in one sentence."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image, ImageFile, UnidentifiedImageError

from clerestory.core.errors import DataError, UploadError
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images.metadata import split_metadata, webp_size
from clerestory.data.images.other_formats import other_format

MAX_PIXELS = 25_000_000
MAX_SIDE = 32_768
MAX_BATCH_PIXELS = 28_000_000  # decoded images in one batch: 112 MB
LARGE_PIXELS = 8_000_000
STRIP_PIXELS = 1_000_000
_WARNINGS_LOCK = threading.Lock()
_SIGNATURES = {"JPEG": (b"\xff\xd8\xff",), "PNG": (b"\x89PNG\r\n\x1a\n",), "WEBP": (b"RIFF",)}
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of a file says about its image.

    Attributes:
        format: ``JPEG``, ``PNG`` or ``WEBP``.
        width, height: in pixels, before an orientation is applied.
        mode: Pillow's name of how pixels are stored, such as ``RGB`` or ``CMYK``.
        is_transparent: whether pixels may be transparent.
        is_animated: whether there are several frames, as far as they are part of the format (not of PNG).
    """

    format: str
    width: int
    height: int
    mode: str
    is_transparent: bool
    is_animated: bool


class _PixelBudget:
    """Limits the pixels that all threads of the process decode at the same time, and thereby their memory."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._held + pixels <= self.total)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


_BUDGET = _PixelBudget(MAX_PIXELS)


def decode_image(content: bytes, enough: int = 0) -> Image.Image:
    """Decode an image as upright RGB; transparency is composited on white, of an animation the first frame is used.

    The format is detected from the content, never from a file name. The size is checked before any pixel is decoded;
    of the metadata only the orientation is used, and it cannot stop an image.

    Args:
        content: the encoded bytes of a JPEG, PNG or WEBP image.
        enough: a shorter side in pixels that is enough, such as that of a thumbnail: a large JPEG is then decoded at a
            half, a quarter or an eighth of its size, in a fraction of the time. By default every pixel is decoded.

    Raises:
        UploadError: with HTTP status 415 (not one of the three formats), 413 (more than 25 megapixels, or a side of
            more than 32,768 pixels), 400 (damaged, truncated or empty) or 503 (not enough memory at the moment).
    """
    return _decode(content, enough)[0]


def decode_small(content: bytes, enough: int) -> tuple[Image.Image, ImageHeader]:
    """Decode an image for measurements at a small size, in the least time.

    Args:
        content: the encoded bytes of a JPEG, PNG or WEBP image.
        enough: a shorter side in pixels that is enough.

    Returns:
        The upright image: what ``decode_image`` returns, or a JPEG in the colour space in which it is stored (YCbCr);
        and its header.

    Raises:
        UploadError: as ``decode_image``.
    """
    return _decode(content, enough, "YCbCr")


def check_image(content: bytes) -> None:
    """Raise what ``decode_image`` would raise, in a fraction of its time for large photographs.

    It decodes in the same way, and the whole file, but gets the pixels of a JPEG at an eighth of their size.
    """
    _decode(content, enough=1)


def decode_sample(data: Dataset, sample: Sample) -> Image.Image:
    """The decoded image of a sample.

    Raises:
        DataError: it cannot be decoded; names the sample.
        IntegrityError: it has changed since the data was opened.
    """
    content = data.read(sample)
    try:
        return decode_image(content)
    except UploadError as error:
        problem = f"the image of the sample {sample.id!r} of {data.name!r} cannot be used: {error.message}"
        raise DataError(problem, error.fix) from None


def image_batches(
    items: Iterable[T], load: Callable[[T], Image.Image | None], size: int
) -> Iterator[list[tuple[T, Image.Image | None]]]:
    """Lists of up to ``size`` items with their images; shorter ones where images are large, so that memory is limited.

    A list is emptied when the next one is requested. Use it in a function of its own: a variable of the loop would hold
    an image while the next one is decoded.
    """
    batch: list[tuple[T, Image.Image | None]] = []
    pixels = 0
    for item in items:
        image = load(item)
        batch.append((item, image))
        last = image.width * image.height if image else 0
        pixels += last
        del image
        # Nothing large is held while the next image, which may be large, too, is decoded.
        if len(batch) == size or pixels >= MAX_BATCH_PIXELS or last >= LARGE_PIXELS:
            yield batch
            batch.clear()
            pixels = 0
    if batch:
        yield batch
        batch.clear()


def _decode(content: bytes, enough: int = 0, jpeg_mode: str = "RGB") -> tuple[Image.Image, ImageHeader]:
    format_ = _detect_format(content)
    try:
        pixel_content, orientation = split_metadata(content, format_)
        # The decoder of WEBP allocates two images when it opens a file.
        early = webp_size(content) if format_ == "WEBP" else (0, 0)
        _check_size(early)
        with _BUDGET.hold(early[0] * early[1]):
            with _no_warnings():
                image: Image.Image = Image.open(io.BytesIO(pixel_content), formats=[format_])
            _check_size(image.size)
            header = _header(image, format_)
            pixels = 0 if any(early) else image.width * image.height
            if enough and image.draft(jpeg_mode, (enough, enough)):
                pixels //= 4  # a decoder may still hold the coefficients of all pixels
            with _BUDGET.hold(pixels):
                image.load()
                _drop_decoder(image)
                if image.mode != jpeg_mode:
                    image = _to_rgb(image)  # replaces the decoded image, so that there are never three of them
                turn = _TO_UPRIGHT.get(orientation)
                return (image if turn is None else image.transpose(turn)), header
    except UploadError:
        raise
    except Image.DecompressionBombError:
        raise _too_large("more than 25 megapixels") from None
    except MemoryError:
        raise UploadError("there is not enough memory to decode the image", "try again later", 503) from None
    except Exception as error:  # a decoder may raise any exception on malformed bytes
        raise _damaged(error) from None


def _header(image: Image.Image, format_: str) -> ImageHeader:
    return ImageHeader(
        format_,
        image.width,
        image.height,
        image.mode,
        image.has_transparency_data,
        bool(getattr(image, "is_animated", False)),
    )


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings about large images: our limit is stricter.

    Filters are global to the process, hence the lock; decoding itself happens outside it.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _detect_format(content: bytes) -> str:
    if not content:
        raise UploadError("the image is empty", "choose a JPEG, PNG or WEBP image", 400)
    for format_, signatures in _SIGNATURES.items():
        if content.startswith(signatures) and (format_ != "WEBP" or content[8:12] == b"WEBP"):
            return format_
    kind, fix = other_format(content)
    raise UploadError(f"this is {f'{kind}, ' if kind else ''}not a JPEG, PNG or WEBP image", fix, 415)


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(f"more than 25 megapixels ({size[0]}×{size[1]})")
    if max(size) > MAX_SIDE:
        raise _too_large(f"a side of more than {MAX_SIDE:,} pixels ({size[0]}×{size[1]})")


def _too_large(problem: str) -> UploadError:
    return UploadError(f"the image has {problem}", "make it smaller and try again", 413)


def _damaged(error: Exception) -> UploadError:
    detail = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its text has the address of an object
        detail = "its header cannot be read"
    return UploadError(f"the image is damaged or truncated ({detail})", "save it again, or choose another", 400)


def _drop_decoder(image: Image.Image) -> None:
    """Free what a decoder keeps for further frames: of a WEBP, three more copies of the image."""
    for name in ("_decoder", "fp"):
        vars(image).pop(name, None)


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB, converted strip by strip: no copy of a large image in another mode."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rgb = Image.new("RGB", image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_strip_to_rgb(strip), (0, top))
    return rgb


def _strip_to_rgb(strip: Image.Image) -> Image.Image:
    if strip.mode.startswith("I") or strip.mode == "F":
        # 16 bits a channel: Pillow's own conversion would clip at 255 instead of scaling.
        strip = strip.convert("I").point(lambda value: value / 257).convert("L")
    if strip.has_transparency_data:
        layer = strip.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return strip.convert("RGB")


# A truncated file must be an error, not filled with grey; other libraries may have enabled that.
ImageFile.LOAD_TRUNCATED_IMAGES = False

# Large images in blocks that the C library returns to the system when they are freed (it keeps blocks below 32 MiB):
# with Pillow's blocks of 16 MiB every thread that has decoded a large image would keep its memory.
Image.core.set_block_size(64 * 2**20)  # type: ignore[attr-defined]  # documented by Pillow, without a type
