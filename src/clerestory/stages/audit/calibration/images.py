"""Faults of images: copies that were changed, and images that show nothing or too much.

Large images are reduced to ``MAX_SIDE`` pixels first, so that a calibration takes a minute; the detectors compare
images at 64 pixels and below.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from enum import StrEnum
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from clerestory.core.findings import FindingCode
from clerestory.data.images import decode_image
from clerestory.stages.audit import image_findings as codes

MAX_SIDE = 768
QUALITY = 90  # of JPEG, where it is not the fault itself
BLUR = 1 / 40  # radius as a share of the shorter side: twice what makes a photograph of 640 pixels useless
DARKNESS = 0.12


class ImageFault(StrEnum):
    """A kind of planted fault, as the rows and slices of a calibration name it."""

    EXACT = "exact copy"
    JPEG_30 = "JPEG quality 30"
    JPEG_70 = "JPEG quality 70"
    HALF_SIZE = "half the size"
    FLIPPED = "flipped"
    ROTATED = "rotated by 90 degrees"
    CROPPED = "cropped by 10 %"
    BAR = "caption bar of 10 %"
    BLANK = "blank"
    BLURRED = "blurred"
    DARK = "dark"
    COORDINATES = "coordinates in the file"


Change = Callable[[Image.Image, Random], Image.Image]


def _crop(image: Image.Image, rng: Random) -> Image.Image:
    width, height = round(image.width * 0.1), round(image.height * 0.1)
    left, top = rng.randint(0, width), rng.randint(0, height)
    return image.crop((left, top, left + image.width - width, top + image.height - height))


def _bar(image: Image.Image, rng: Random) -> Image.Image:
    bar = max(1, round(image.height * 0.1))
    larger = Image.new("RGB", (image.width, image.height + bar), "white")
    larger.paste(image)
    ImageDraw.Draw(larger).text((4, image.height + 1), f"image {rng.randint(1000, 9999)}", fill="black")
    return larger


def _half(image: Image.Image, rng: Random) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def _blank(image: Image.Image, rng: Random) -> Image.Image:
    return Image.new("RGB", image.size, (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)))


_CHANGES: dict[ImageFault, Change] = {
    ImageFault.HALF_SIZE: _half,
    ImageFault.FLIPPED: lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    ImageFault.ROTATED: lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    ImageFault.CROPPED: _crop,
    ImageFault.BAR: _bar,
    ImageFault.BLANK: _blank,
    ImageFault.BLURRED: lambda image, rng: image.filter(ImageFilter.GaussianBlur(max(2.0, min(image.size) * BLUR))),
    ImageFault.DARK: lambda image, rng: image.point(lambda value: value * DARKNESS),
}
_QUALITIES = {ImageFault.JPEG_30: 30, ImageFault.JPEG_70: 70}
# The finding that names the fault. Any finding about copies counts as found for a copy: which of the three it is
# depends on how much the change left.
CODE_OF_COPY: dict[ImageFault, FindingCode] = {
    ImageFault.EXACT: codes.EXACT_COPIES,
    **dict.fromkeys((ImageFault.JPEG_30, ImageFault.JPEG_70, ImageFault.HALF_SIZE), codes.NEAR_DUPLICATES),
    **dict.fromkeys((ImageFault.FLIPPED, ImageFault.ROTATED), codes.NEAR_DUPLICATES),
    **dict.fromkeys((ImageFault.CROPPED, ImageFault.BAR), codes.CROPS),
}
CODE_OF_ODD: dict[ImageFault, FindingCode] = {
    ImageFault.BLANK: codes.BLANK,
    ImageFault.BLURRED: codes.BLURRED,
    ImageFault.DARK: codes.DARK,
    ImageFault.COORDINATES: codes.GPS,
}
COPY_CODES = (codes.EXACT_COPIES, codes.NEAR_DUPLICATES, codes.CROPS)


def plant_image(content: bytes, fault: ImageFault, rng: Random) -> bytes:
    """The file of an image with a fault.

    Args:
        content: the file.
        fault: what is planted.
        rng: chooses places and colours.

    Raises:
        UploadError: the image cannot be decoded.
    """
    if fault is ImageFault.EXACT:
        return content
    image = decode_image(content, enough=MAX_SIDE)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    change = _CHANGES.get(fault)
    out = io.BytesIO()
    exif = _coordinates(rng) if fault is ImageFault.COORDINATES else Image.Exif()
    changed = change(image, rng) if change else image
    changed.save(out, "JPEG", quality=_QUALITIES.get(fault, QUALITY), exif=exif)
    return out.getvalue()


def _coordinates(rng: Random) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (rng.uniform(0, 80), 0.0, 0.0), 3: "E", 4: (rng.uniform(0, 170), 0.0, 0.0)})
    return exif
