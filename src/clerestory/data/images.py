"""Pictures from anywhere, made safe: JPEG, PNG or WEBP bytes in, upright RGB out, or one sentence why not."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from clerestory.core.errors import UploadError

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 25_000_000
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
    kind = _kind(content)
    with warnings.catch_warnings():
        # Pillow warns of large pictures and odd metadata; the limit below is stricter, metadata is not used.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=[kind]) as picture:
                _check_size(picture.size)
                picture.load()
                return _plain(picture)
        except UploadError:
            raise
        except Image.DecompressionBombError:
            raise _too_large() from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
            raise _damaged(error) from None
        except Exception as error:  # a decoder met bytes nobody foresaw; the picture is at fault, not the caller
            raise _damaged(error) from None


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
