"""What several corruptions share: types, rounding, tables, resampling and blurring along lines.

Shapes: H height, W width, C channels (3). Pictures are uint8 ``image_HWC``; work is done in float32 on 0..255 or 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, cos, hypot, radians, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Corruption = Callable[[Bytes, int, np.random.Generator], Bytes]
"""Picture (H, W, 3), severity 1..5 and a source of randomness to a picture of the same shape."""

# Values are cut, not rounded, as in the published benchmark; the margin keeps a 200 that became 199.9999 at 200.
MARGIN = 1e-3


def to_bytes(values: Floats | Doubles) -> Bytes:
    """Cut values (any shape, 0..255 wanted) to uint8. The array is used up."""
    values += np.asarray(MARGIN, values.dtype)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def look_up(table: Bytes, rows: Bytes | int, image_HWC: Bytes) -> Bytes:
    """``table[rows, image]`` for a table of 256×256 and rows that broadcast against the picture."""
    index = np.left_shift(rows, 8, dtype=np.uint16) | image_HWC
    out: Bytes = table.reshape(-1).take(index)
    return out


def threefold(values_HW: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) of three equal channels: adding it is several times faster than broadcasting over so short an axis."""
    return np.repeat(values_HW.reshape(-1), 3).reshape(*values_HW.shape, 3)


def gaussian(
    values: Floats, sigma: float | tuple[float, float], truncate: float = 4.0, mode: str = "nearest"
) -> Floats:
    """Gaussian blur of the first two axes of (H, W) or (H, W, C)."""
    sigmas = (sigma, sigma) if isinstance(sigma, int | float) else sigma
    out = values
    for axis, width in enumerate(sigmas):
        out = ndimage.gaussian_filter1d(out, width, axis=axis, truncate=truncate, mode=mode)
    return out


def lines(size: int, zoom: float) -> tuple[NDArray[np.intp], Floats]:
    """Where the lines of a zoomed middle come from, along one axis.

    The middle ``ceil(size / zoom)`` lines are stretched by ``zoom`` so that first and last stay in place.

    Returns:
        (N,) the line to the left of each, and (N,) the weight of the line to its right; N ≥ ``size``.
    """
    kept = ceil(size / zoom)
    first = (size - kept) // 2
    count = round(kept * zoom)
    place = np.arange(count) * ((kept - 1) / (count - 1))
    left = np.minimum(place.astype(np.intp), kept - 2)
    return left + first, (place - left).astype(np.float32)


def zoomed(values: Floats, zoom: float) -> Floats:
    """The middle of (H, W), zoomed linearly; at least as large as the input."""
    left, weight = lines(values.shape[0], zoom)
    values = between(values, left, weight[:, None])
    left, weight = lines(values.shape[1], zoom)
    return np.ascontiguousarray(between(np.ascontiguousarray(values.T), left, weight[:, None]).T)


def between(values: Floats, left: NDArray[np.intp], weight: Floats) -> Floats:
    """Rows between ``left`` and the next, as far as ``weight`` says."""
    out = values.take(left, axis=0)
    step = values.take(left + 1, axis=0)
    step -= out
    step *= weight
    out += step
    return out


def along(values: Floats, radius: int, sigma: float, angle: float) -> Floats:
    """Blur (H, W) or (H, W, C) along a line to one side, edges repeated: a camera or a flake that moves.

    Args:
        values: the picture.
        radius: the line has 2·radius + 1 steps.
        sigma: how fast the weight of the steps falls.
        angle: of the line, in degrees.
    """
    steps = 2 * radius + 1
    weights = np.exp(-(np.arange(steps) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    down, right = sin(radians(angle)), cos(radians(angle))
    length = hypot(steps * down, steps * right)
    height, width = values.shape[:2]
    moves = []
    for step in range(steps):
        dy = -ceil(step * steps * down / length - 0.5)
        dx = -ceil(step * steps * right / length - 0.5)
        if abs(dy) >= height or abs(dx) >= width:
            break
        moves.append((dy, dx, weights[step]))
    return _moved(values, moves)


def _moved(values: Floats, moves: list[tuple[int, int, float]]) -> Floats:
    """The weighted sum of shifted copies; a band of rows at a time, so that the work stays in the processor's cache."""
    height, width = values.shape[:2]
    reach_y = max(abs(dy) for dy, _, _ in moves)
    reach_x = max(abs(dx) for _, dx, _ in moves)
    rest = ((0, 0),) * (values.ndim - 2)
    padded = np.pad(values, ((reach_y, reach_y), (reach_x, reach_x), *rest), mode="edge")
    out = np.zeros(values.shape, np.float32)
    band = max(1, 16384 // (out[0].size or 1))
    scratch = np.empty((band, *values.shape[1:]), np.float32)
    for top in range(0, height, band):
        rows = out[top : top + band]
        term = scratch[: len(rows)]
        for dy, dx, weight in moves:
            y, x = top + reach_y - dy, reach_x - dx
            np.multiply(padded[y : y + len(rows), x : x + width], np.float32(weight), out=term)
            rows += term
    return out
