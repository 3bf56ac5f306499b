"""Blur: out of focus, through frosted glass, in motion, towards the camera, and plain."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from clerestory.data.corruptions.arrays import Bytes, Floats, along, between, gaussian, lines, to_bytes
from clerestory.data.corruptions.parameters import PARAMETERS


def gaussian_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """The plain blur."""
    (sigma,) = PARAMETERS["gaussian_blur"][severity - 1]
    return to_bytes(gaussian(image_HWC.astype(np.float32), sigma))


def defocus_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Every point becomes a disk: a lens out of focus."""
    radius, soft = PARAMETERS["defocus_blur"][severity - 1]
    height, width = image_HWC.shape[:2]
    kernel = _disk(int(radius), soft)
    reach = len(kernel) // 2
    padded = np.pad(image_HWC, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    planes_CHW = np.ascontiguousarray(padded.transpose(2, 0, 1), np.float32)
    sizes = (fft.next_fast_len(planes_CHW.shape[1], real=True), fft.next_fast_len(planes_CHW.shape[2], real=True))
    waves = fft.rfft2(planes_CHW, sizes, workers=1)
    waves *= _waves(int(radius), soft, sizes)
    blurred = fft.irfft2(waves, sizes, overwrite_x=True, workers=1)
    ends = (2 * reach + height, 2 * reach + width)
    return to_bytes(np.ascontiguousarray(blurred[:, 2 * reach : ends[0], 2 * reach : ends[1]].transpose(1, 2, 0)))


@lru_cache(maxsize=16)
def _waves(radius: int, soft: float, sizes: tuple[int, int]) -> NDArray[np.complex64]:
    found: NDArray[np.complex64] = fft.rfft2(_disk(radius, soft), sizes)
    return found


def _disk(radius: int, soft: float) -> Floats:
    """A disk of sum about 1 whose edge is softened by a small Gaussian (the array reflects at its own edge)."""
    reach = max(radius, 8)
    line = np.arange(-reach, reach + 1)
    disk = ((line**2)[:, None] + (line**2) <= radius**2).astype(np.float32)
    disk /= disk.sum()
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    weights = np.exp(-(taps**2) / (2 * soft**2))
    weights /= weights.sum()
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, weights, axis=axis, mode="mirror")
    return disk


def motion_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """The camera moves along a line, at an angle drawn from -45 to 45 degrees."""
    radius, sigma = PARAMETERS["motion_blur"][severity - 1]
    return to_bytes(along(image_HWC.astype(np.float32), int(radius), sigma, rng.uniform(-45, 45)))


def zoom_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """The camera moves towards what it sees: the mean of the picture and its zoomed middles."""
    end, step = PARAMETERS["zoom_blur"][severity - 1]
    height, width = image_HWC.shape[:2]
    source_HX = image_HWC.reshape(height, -1).astype(np.float32)
    total_HX = source_HX.copy()
    zooms = np.arange(1, end, step)
    turned_WHC = np.zeros((width, height, 3), np.float32)
    for zoom in zooms:
        left, weight = lines(height, zoom)
        rows_HWC = between(source_HX, left[:height], weight[:height, None]).reshape(image_HWC.shape)
        left, weight = lines(width, zoom)
        rows_WX = np.ascontiguousarray(rows_HWC.transpose(1, 0, 2)).reshape(width, -1)
        turned_WHC += between(rows_WX, left[:width], weight[:width, None]).reshape(turned_WHC.shape)
    total_HWC = total_HX.reshape(image_HWC.shape)
    total_HWC += turned_WHC.transpose(1, 0, 2)
    total_HWC /= np.float32(len(zooms) + 1)
    return to_bytes(total_HWC)


def glass_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Through frosted glass: pixels take the colour of one near by, in rounds, between two small blurs."""
    sigma, jump, rounds = PARAMETERS["glass_blur"][severity - 1]
    height, width = image_HWC.shape[:2]
    picture_PC = to_bytes(gaussian(image_HWC.astype(np.float32), sigma)).reshape(-1, 3)
    for _ in range(int(rounds)):
        picture_PC = picture_PC[_jumps(height, width, int(jump), rng)]
    return to_bytes(gaussian(picture_PC.reshape(image_HWC.shape).astype(np.float32), sigma))


def _jumps(height: int, width: int, jump: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(H·W,) where each pixel's colour comes from after one round.

    The benchmark walks from the last pixel to the first and gives each the colour that the pixel at a random offset has
    *at that moment*, so a colour may travel on. What it does, pixel by pixel::

        for h in range(height - jump, jump, -1):
            for w in range(width - jump, jump, -1):
                picture[h, w] = picture[h + dy, w + dx]    # dx, dy drawn from [-jump, jump)

    Here every pixel points at the one it copies; those that were copied into earlier point on, and pointers are
    followed in doubling steps until none does.
    """
    rows = np.arange(height - jump, jump, -1)
    columns = np.arange(width - jump, jump, -1)
    moves = rng.integers(-jump, jump, size=(len(rows), len(columns), 2))
    target = rows[:, None] * width + columns
    source = target + moves[..., 1] * width + moves[..., 0]
    points = np.arange(height * width)
    # Only a pixel later in the picture has been copied into already; all others still have their own colour.
    points[target] = np.where(source > target, source, target)
    while True:
        further = points[points]
        if np.array_equal(further, points):
            break
        points = further
    # The end of each chain copies from a pixel that has not changed yet.
    last = np.arange(height * width)
    last[target] = np.where(source > target, target, source)
    found: NDArray[np.intp] = last[points]
    return found
