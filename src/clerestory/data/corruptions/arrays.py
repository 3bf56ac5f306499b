"""Shared by several corruptions: types, rounding, lookup tables, resampling and blurring along lines.

Shapes: H height, W width, C channels (3). Images are uint8 ``image_HWC``; computed in float32 on 0..255 or 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, cos, hypot, radians, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.data.optional import scipy

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Corruption = Callable[[Bytes, int, np.random.Generator], Bytes]
"""From an image (H, W, 3), a severity 1..5 and a random generator to an image of the same shape."""

# Values are truncated, not rounded, as in the published benchmark; with the margin, 199.9999 becomes 200.
MARGIN = 1e-3


def to_bytes(values: Floats | Doubles) -> Bytes:
    """Clip values of any shape to 0..255 and truncate them to uint8. The array is overwritten."""
    values += np.asarray(MARGIN, values.dtype)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def lookup(table: Bytes, rows: Bytes | int, image_HWC: Bytes) -> Bytes:
    """``table[rows, image]`` for a table of 256×256 and rows that broadcast against the image."""
    index = np.left_shift(rows, 8, dtype=np.uint16) | image_HWC
    out: Bytes = table.reshape(-1).take(index)
    return out


def repeat_channels(values_HW: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) with three equal channels: several times faster than broadcasting over so short an axis."""
    return np.repeat(values_HW.reshape(-1), 3).reshape(*values_HW.shape, 3)


def gaussian(
    values: Floats, sigma: float | tuple[float, float], truncate: float = 4.0, mode: str = "nearest"
) -> Floats:
    """Gaussian blur of the first two axes of (H, W) or (H, W, C)."""
    sigmas = (sigma, sigma) if isinstance(sigma, int | float) else sigma
    out = values
    for axis, width in enumerate(sigmas):
        out = scipy.ndimage.gaussian_filter1d(out, width, axis=axis, truncate=truncate, mode=mode)
    return out


def zoom_indices(size: int, zoom: float) -> tuple[NDArray[np.intp], Floats]:
    """Source positions of a zoomed centre along one axis, for linear interpolation.

    The central ``ceil(size / zoom)`` positions are stretched by ``zoom``, with the first and the last one fixed.

    Returns:
        (N,) the left neighbour of each position, and (N,) the weight of the right neighbour; N ≥ ``size``.
    """
    central = ceil(size / zoom)
    first = (size - central) // 2
    count = round(central * zoom)
    position = np.arange(count) * ((central - 1) / (count - 1))
    left = np.minimum(position.astype(np.intp), central - 2)
    return left + first, (position - left).astype(np.float32)


def zoom_center(values: Floats, zoom: float) -> Floats:
    """The centre of (H, W), zoomed with linear interpolation; at least as large as the input."""
    left, weight = zoom_indices(values.shape[0], zoom)
    values = interpolate_rows(values, left, weight[:, None])
    left, weight = zoom_indices(values.shape[1], zoom)
    return np.ascontiguousarray(interpolate_rows(np.ascontiguousarray(values.T), left, weight[:, None]).T)


def interpolate_rows(values: Floats, left: NDArray[np.intp], weight: Floats) -> Floats:
    """Linear interpolation between the rows ``left`` and ``left + 1``, with ``weight`` for the latter."""
    out = values.take(left, axis=0)
    step = values.take(left + 1, axis=0)
    step -= out
    step *= weight
    out += step
    return out


def blur_along_line(values: Floats, radius: int, sigma: float, angle: float) -> Floats:
    """Blur (H, W) or (H, W, C) along a line to one side, with repeated edges: the motion of a camera or of a snowflake.

    Args:
        values: the image.
        radius: the line has 2·radius + 1 steps.
        sigma: standard deviation of the weights of the steps.
        angle: of the line, in degrees.
    """
    steps = 2 * radius + 1
    weights = np.exp(-(np.arange(steps) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    down, right = sin(radians(angle)), cos(radians(angle))
    length = hypot(steps * down, steps * right)
    height, width = values.shape[:2]
    shifts = []
    for step in range(steps):
        dy = -ceil(step * steps * down / length - 0.5)
        dx = -ceil(step * steps * right / length - 0.5)
        if abs(dy) >= height or abs(dx) >= width:
            break
        shifts.append((dy, dx, weights[step]))
    return _weighted_shifts(values, shifts)


def _weighted_shifts(values: Floats, shifts: list[tuple[int, int, float]]) -> Floats:
    """The weighted sum of shifted copies, a band of rows at a time, which fits the processor's cache."""
    height, width = values.shape[:2]
    reach_y = max(abs(dy) for dy, _, _ in shifts)
    reach_x = max(abs(dx) for _, dx, _ in shifts)
    rest = ((0, 0),) * (values.ndim - 2)
    padded = np.pad(values, ((reach_y, reach_y), (reach_x, reach_x), *rest), mode="edge")
    out = np.zeros(values.shape, np.float32)
    band = max(1, 16384 // (out[0].size or 1))
    scratch = np.empty((band, *values.shape[1:]), np.float32)
    for top in range(0, height, band):
        rows = out[top : top + band]
        term = scratch[: len(rows)]
        for dy, dx, weight in shifts:
            y, x = top + reach_y - dy, reach_x - dx
            np.multiply(padded[y : y + len(rows), x : x + width], np.float32(weight), out=term)
            rows += term
    return out
