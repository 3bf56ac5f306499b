"""Images as every model sees them: RGB, with transparency on white; those of Clerestory's own padded to a square.

Without torch, so that a server that runs exported models needs none.

Shape suffixes: B images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
WHITE = (255, 255, 255)
REDUCING_GAP = 3.0
TILE_PIXELS = 1_000_000


def to_rgb(image: Image.Image) -> Image.Image:
    """An RGB image; transparency is composited on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*WHITE, 255)), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def pad_to_square(image: Image.Image, side: int) -> Image.Image:
    """An RGB image of ``side`` × ``side``: transparency on white, and white padding to a square.

    The same pixels as padding first and then resizing with ``reducing_gap=3.0``, but the memory depends on the number
    of pixels of the image only: a padded strip of 1 × 30,000 pixels would have 900 million.
    """
    image = to_rgb(image)
    longer = max(image.size)
    if image.size == (side, side):
        return image
    factor = int(longer / side / REDUCING_GAP) or 1  # as in Pillow's resize
    reduced = _pad_and_reduce(image, factor)
    if longer == side:
        return reduced
    box = (0, 0, longer / factor, longer / factor)
    return reduced.resize((side, side), Image.Resampling.BILINEAR, box)


def _pad_and_reduce(image: Image.Image, factor: int) -> Image.Image:
    """``image`` in the middle of a white square, reduced by ``factor``; a part of the square at a time."""
    longer = max(image.size)
    if image.width == image.height:
        return image.reduce(factor) if factor > 1 else image
    left, top = (longer - image.width) // 2, (longer - image.height) // 2
    # The rows and columns of the square with pixels of the image, as whole blocks of factor × factor.
    x0, y0 = left // factor * factor, top // factor * factor
    x1, y1 = (min(longer, -(-end // factor) * factor) for end in (left + image.width, top + image.height))
    wide = image.width > image.height
    step = max(1, TILE_PIXELS // ((y1 - y0 if wide else x1 - x0) * factor)) * factor
    reduced = Image.new("RGB", (-(-longer // factor),) * 2, WHITE)
    for start in range(0, longer, step):
        end = min(longer, start + step)
        x, y, right, bottom = (start, y0, end, y1) if wide else (x0, start, x1, end)
        tile = Image.new("RGB", (right - x, bottom - y), WHITE)
        tile.paste(image, (left - x, top - y))
        reduced.paste(tile.reduce(factor), (x // factor, y // factor))
    return reduced


def to_pixels(images: Sequence[Image.Image], side: int) -> Pixels:
    """``(B, H, W, C)`` uint8 pixels of images of any size and mode."""
    out_BHWC = np.empty((len(images), side, side, 3), np.uint8)
    for row, image in enumerate(images):
        out_BHWC[row] = np.asarray(pad_to_square(image, side))
    return out_BHWC
