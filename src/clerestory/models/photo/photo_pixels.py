"""A photograph as the photo encoder's network reads it; without torch.

Shape suffixes: C channels, H and W pixels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from clerestory.models.pixels import to_rgb
from clerestory.models.protocols import Matrix

SHORT_SIDE, MULTIPLE, MAX_ASPECT = 256, 32, 2
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0  # as in the training of EfficientNet-Lite
REDUCING_GAP = 3.0


def network_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a photograph is shown to the network: its aspect is kept, nothing is cropped.

    The shorter side is 256 pixels and the longer one at most 512, both rounded to multiples of 32, the network's
    stride.
    """
    scale = SHORT_SIDE / min(width, height)
    sides = (min(side * scale, MAX_ASPECT * SHORT_SIDE) for side in (width, height))
    across, down = (max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in sides)
    return across, down


def photo_pixels(image: Image.Image) -> Matrix:
    """Pixels ``(1, C, H, W)`` in -1..1."""
    resized = to_rgb(image).resize(network_size(*image.size), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
    values_HWC = (np.asarray(resized, dtype=np.float32) - PIXEL_MEAN) / PIXEL_SCALE
    return values_HWC.transpose(2, 0, 1)[None]  # as an image: channels are last in memory
