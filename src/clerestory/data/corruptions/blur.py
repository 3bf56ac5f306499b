"""Blur: defocus, frosted glass, motion, zoom and Gaussian."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clerestory.data.corruptions.arrays import (
    Bytes,
    Floats,
    blur_along_line,
    gaussian,
    interpolate_rows,
    to_bytes,
    zoom_indices,
)
from clerestory.data.corruptions.parameters import PARAMETERS
from clerestory.data.optional import scipy


def gaussian_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Gaussian blur."""
    (sigma,) = PARAMETERS["gaussian_blur"][severity - 1]
    return to_bytes(gaussian(image_HWC.astype(np.float32), sigma))


def defocus_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """A lens out of focus: every point becomes a disk."""
    radius, soft = PARAMETERS["defocus_blur"][severity - 1]
    height, width = image_HWC.shape[:2]
    kernel = _disk(int(radius), soft)
    reach = len(kernel) // 2
    padded = np.pad(image_HWC, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    planes_CHW = np.ascontiguousarray(padded.transpose(2, 0, 1), np.float32)
    sizes = (
        scipy.fft.next_fast_len(planes_CHW.shape[1], real=True),
        scipy.fft.next_fast_len(planes_CHW.shape[2], real=True),
    )
    waves = scipy.fft.rfft2(planes_CHW, sizes, workers=1)
    waves *= _kernel_spectrum(int(radius), soft, sizes)
    blurred = scipy.fft.irfft2(waves, sizes, overwrite_x=True, workers=1)
    ends = (2 * reach + height, 2 * reach + width)
    return to_bytes(np.ascontiguousarray(blurred[:, 2 * reach : ends[0], 2 * reach : ends[1]].transpose(1, 2, 0)))


@lru_cache(maxsize=16)
def _kernel_spectrum(radius: int, soft: float, sizes: tuple[int, int]) -> NDArray[np.complex64]:
    spectrum: NDArray[np.complex64] = scipy.fft.rfft2(_disk(radius, soft), sizes)
    return spectrum


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
        disk = scipy.ndimage.correlate1d(disk, weights, axis=axis, mode="mirror")
    return disk


def motion_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """A camera in motion along a line, at a random angle from -45 to 45 degrees."""
    radius, sigma = PARAMETERS["motion_blur"][severity - 1]
    return to_bytes(blur_along_line(image_HWC.astype(np.float32), int(radius), sigma, rng.uniform(-45, 45)))


def zoom_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """A camera in motion towards the scene: the mean of the image and its zoomed centres."""
    end, step = PARAMETERS["zoom_blur"][severity - 1]
    height, width = image_HWC.shape[:2]
    source_HX = image_HWC.reshape(height, -1).astype(np.float32)
    total_HX = source_HX.copy()
    zooms = np.arange(1, end, step)
    transposed_WHC = np.zeros((width, height, 3), np.float32)
    for zoom in zooms:
        left, weight = zoom_indices(height, zoom)
        rows_HWC = interpolate_rows(source_HX, left[:height], weight[:height, None]).reshape(image_HWC.shape)
        left, weight = zoom_indices(width, zoom)
        rows_WX = np.ascontiguousarray(rows_HWC.transpose(1, 0, 2)).reshape(width, -1)
        transposed_WHC += interpolate_rows(rows_WX, left[:width], weight[:width, None]).reshape(transposed_WHC.shape)
    total_HWC = total_HX.reshape(image_HWC.shape)
    total_HWC += transposed_WHC.transpose(1, 0, 2)
    total_HWC /= np.float32(len(zooms) + 1)
    return to_bytes(total_HWC)


def glass_blur(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Frosted glass: each pixel gets the colour of a nearby one, in several rounds, between two small blurs."""
    sigma, jump, rounds = PARAMETERS["glass_blur"][severity - 1]
    height, width = image_HWC.shape[:2]
    image_PC = to_bytes(gaussian(image_HWC.astype(np.float32), sigma)).reshape(-1, 3)
    for _ in range(int(rounds)):
        image_PC = image_PC[_pixel_sources(height, width, int(jump), rng)]
    return to_bytes(gaussian(image_PC.reshape(image_HWC.shape).astype(np.float32), sigma))


def _pixel_sources(height: int, width: int, jump: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(H·W,) the source of the colour of each pixel after one round.

    The benchmark goes from the last pixel to the first and gives each the colour that the pixel at a random offset has
    *at that moment*, so a colour may travel further. Pixel by pixel, it does this::

        for h in range(height - jump, jump, -1):
            for w in range(width - jump, jump, -1):
                image[h, w] = image[h + dy, w + dx]    # dx, dy uniform in [-jump, jump)

    Here every pixel points at the one it copies; a pixel that was overwritten earlier points further, and pointers are
    followed in doubling steps until all of them end.
    """
    rows = np.arange(height - jump, jump, -1)
    columns = np.arange(width - jump, jump, -1)
    moves = rng.integers(-jump, jump, size=(len(rows), len(columns), 2))
    target = rows[:, None] * width + columns
    source = target + moves[..., 1] * width + moves[..., 0]
    points = np.arange(height * width)
    # Only a later pixel has already been overwritten; all others still have their own colour.
    points[target] = np.where(source > target, source, target)
    while True:
        further = points[points]
        if np.array_equal(further, points):
            break
        points = further
    # The end of each chain copies from a pixel that is still unchanged.
    last = np.arange(height * width)
    last[target] = np.where(source > target, target, source)
    sources: NDArray[np.intp] = last[points]
    return sources
