"""Drops of water and mud on the lens."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clerestory.data.corruptions.arrays import Bytes, Floats, gaussian, to_bytes
from clerestory.data.corruptions.parameters import PARAMETERS
from clerestory.data.optional import scipy

WATER = np.array([175, 238, 238], np.float32)
MUD = np.array([63, 42, 20], np.float32)
MAX_DISTANCE = 20
"""The distance in pixels from the edge of a drop beyond which the light is constant."""


def spatter(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Severities 1 to 3 are water with bright edges; 4 and 5 are opaque mud."""
    mean, std, sigma, threshold, strength, mud = PARAMETERS["spatter"][severity - 1]
    drops = rng.standard_normal(image_HWC.shape[:2], dtype=np.float32)
    drops *= np.float32(std)
    drops += np.float32(mean)
    drops = gaussian(drops, sigma)
    drops[drops < threshold] = 0
    if mud:
        cover = gaussian((drops > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
        out = image_HWC * (1 - cover)[..., None]
        out += cover[..., None] * MUD
        return to_bytes(out)
    light = _glints(to_bytes(drops * 255))
    light *= np.float32(strength / max(float(light.max()), 1e-6))
    return to_bytes(image_HWC + light[..., None] * WATER)


def _glints(drops_HW: Bytes) -> Floats:
    """The light of the drops at each pixel: low in their centre, high along one side of their edges."""
    distances = np.minimum(distance(edges(drops_HW, 50, 150)), MAX_DISTANCE)
    smooth = distances.astype(np.float32)
    for axis in (0, 1):
        smooth = scipy.ndimage.uniform_filter1d(smooth, 3, axis=axis, mode="mirror")
    # Chamfer distances approach integers from below: a margin as wide as elsewhere would round them up.
    equalised = _equalised((smooth + np.float32(1e-5)).astype(np.uint8)).astype(np.int16)
    # A relief lit from one corner.
    padded = np.pad(equalised, 1, mode="reflect")
    height, width = equalised.shape
    lit = np.zeros_like(equalised)
    for y, x, weight in ((0, 0, -2), (0, 1, -1), (1, 0, -1), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2)):
        lit += weight * padded[y : y + height, x : x + width]
    relief = np.clip(lit, 0, 255).astype(np.float32)
    for axis in (0, 1):
        relief = scipy.ndimage.uniform_filter1d(relief, 3, axis=axis, mode="mirror")
    light: Floats = np.rint(relief) * drops_HW.astype(np.float32)
    return light


def _equalised(values_HW: Bytes) -> Bytes:
    """Histogram equalisation."""
    counts = np.bincount(values_HW.reshape(-1), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    others = values_HW.size - int(counts[first])
    if not others:
        return values_HW
    counts[: first + 1] = 0
    table = np.rint(np.cumsum(counts) * np.float32(255 / others)).astype(np.uint8)
    equalised: Bytes = table.take(values_HW)
    return equalised


def edges(values_HW: Bytes, low: int, high: int) -> NDArray[np.bool_]:
    """Edges one pixel wide: Canny, "A computational approach to edge detection" (1986), with 3×3 Sobel gradients.

    Args:
        values_HW: the image.
        low: gradient (sum of absolute values) above which an edge continues.
        high: gradient above which an edge starts.
    """
    padded = np.pad(values_HW.astype(np.int32), 1, mode="edge")
    columns = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    dx, dy = columns[:, 2:] - columns[:, :-2], rows[2:] - rows[:-2]
    slope = np.pad(np.abs(dx) + np.abs(dy), 1)
    ys, xs = np.nonzero(slope[1:-1, 1:-1] > low)
    if not len(ys):
        return np.zeros(values_HW.shape, dtype=bool)
    maxima = _local_maxima(
        slope.reshape(-1), (ys + 1) * slope.shape[1] + xs + 1, slope.shape[1], dx[ys, xs], dy[ys, xs]
    )
    weak = np.zeros(values_HW.shape, dtype=bool)
    weak[ys[maxima], xs[maxima]] = True
    parts, count = scipy.ndimage.label(weak, np.ones((3, 3)))
    strong = np.zeros(count + 1, dtype=bool)
    strong[parts[weak & (slope[1:-1, 1:-1] > high)]] = True
    strong[0] = False
    edge: NDArray[np.bool_] = strong[parts]
    return edge


def _local_maxima(
    slope: NDArray[np.int32], index: NDArray[np.intp], row_length: int, dx: NDArray[np.int32], dy: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Non-maximum suppression across the edge, whose direction is one of four."""
    across, down = np.abs(dx).astype(np.int64), np.abs(dy).astype(np.int64) << 15
    shallow = across * 13573  # tan 22.5° in units of 2⁻¹⁵
    flat = down < shallow
    steep = down > shallow + (across << 16)
    side = np.where((dx ^ dy) < 0, -1, 1)
    step = np.where(flat, 1, np.where(steep, row_length, row_length + side))
    current = slope[index]
    following = slope[index + step]
    # Of two equal neighbours in a straight direction, the first is the maximum.
    return (current > slope[index - step]) & np.where(flat | steep, current >= following, current > following)


def distance(marked_HW: NDArray[np.bool_]) -> Floats:
    """The distance of each pixel from the nearest marked one, up to a little beyond ``MAX_DISTANCE``.

    Steps along a line cost 1, diagonal ones 1.4 and those of a chess knight 2.1969 (Borgefors, "Distance
    transformations in digital images", 1986). First along columns, then the best of the columns around: at a
    fixed horizontal distance, the nearest marked pixel of a column is the best.
    """
    limit = MAX_DISTANCE + 2
    height, width = marked_HW.shape
    rows = np.arange(height, dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(marked_HW, rows, -limit), axis=0)
    below = np.minimum.accumulate(np.where(marked_HW, rows, height + limit)[::-1], axis=0)[::-1]
    vertical = np.minimum(np.minimum(rows - above, below - rows), limit).astype(np.uint8)
    padded = np.pad(vertical, ((0, 0), (limit, limit)), constant_values=limit)
    costs = _knight_costs(limit)
    best: Floats = costs[0].take(vertical)
    for beside in range(1, limit):
        columns = (padded[:, limit + side : limit + side + width] for side in (-beside, beside))
        np.minimum(best, costs[beside].take(np.minimum(*columns)), out=best)
    return best


@lru_cache(maxsize=1)
def _knight_costs(limit: int) -> Floats:
    """(limit + 1, limit + 1) the cost of the cheapest way between two pixels, by how far they are apart each way."""
    sides = np.arange(limit + 1)
    longer, shorter = np.maximum(sides[:, None], sides), np.minimum(sides[:, None], sides)
    straight = shorter * 2.1969 + (longer - 2 * shorter)
    diagonal = (longer - shorter) * 2.1969 + (2 * shorter - longer) * 1.4
    costs = np.where(longer >= 2 * shorter, straight, diagonal)
    costs[-1:, :] = costs[:, -1:] = limit
    return costs.astype(np.float32)
