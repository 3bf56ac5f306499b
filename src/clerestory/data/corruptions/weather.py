"""Weather: snow, frost on the window, fog."""

from __future__ import annotations

import numpy as np

from clerestory.data.corruptions.arrays import Bytes, Floats, blur_along_line, repeat_channels, to_bytes, zoom_center
from clerestory.data.corruptions.frost_textures import TEXTURES, random_crop
from clerestory.data.corruptions.parameters import PARAMETERS


def snow(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Flakes that fall at an angle, over a brighter and paler image."""
    mean, std, zoom, threshold, radius, sigma, image_weight = PARAMETERS["snow"][severity - 1]
    height, width = image_HWC.shape[:2]
    flakes = rng.standard_normal((height, width), dtype=np.float32)
    flakes *= np.float32(std)
    flakes += np.float32(mean)
    flakes = zoom_center(flakes, zoom)
    flakes[flakes < threshold] = 0
    np.minimum(flakes, 1, out=flakes)
    flakes = blur_along_line(flakes, int(radius), sigma, rng.uniform(-135, -45))[:height, :width]
    flakes = np.rint(flakes * 255)
    flakes = flakes + flakes[::-1, ::-1]
    out = image_HWC.astype(np.float32)
    # Channel by channel: the rounding of a matrix product may depend on the number of threads.
    light = out[..., 0] * np.float32(1.5 * 0.299)
    light += out[..., 1] * np.float32(1.5 * 0.587)
    light += out[..., 2] * np.float32(1.5 * 0.114)
    light += np.float32(127.5)
    np.maximum(out, repeat_channels(light), out=out)
    out *= np.float32(1 - image_weight)
    out += image_HWC * np.float32(image_weight)
    out += repeat_channels(flakes)
    return to_bytes(out)


def frost(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Ice crystals on the window: a random crop of one of five generated textures, blended with the image.

    The benchmark blends photographs of frosted windows, which we may not redistribute. These textures are generated
    from fixed seeds (``frost_textures``) with the mean brightness of the photographs; weights and cropping are those of
    the benchmark. Numbers under frost are comparable with one another, but only close to published ones.
    """
    weight, ice = PARAMETERS["frost"][severity - 1]
    height, width = image_HWC.shape[:2]
    out = random_crop(int(rng.integers(len(TEXTURES))), height, width, rng) * np.float32(ice)
    out += image_HWC * np.float32(weight)
    return to_bytes(out)


def fog(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Fog of uneven thickness: a plasma fractal is added, and the sum is rescaled to the range of the image."""
    thickness, decay = PARAMETERS["fog"][severity - 1]
    height, width = image_HWC.shape[:2]
    size = 1 << (max(height, width) - 1).bit_length()
    cloud = plasma(size, decay, rng)[:height, :width]
    brightest = np.float32(image_HWC.max() / 255)
    out = image_HWC + repeat_channels(cloud * np.float32(255 * thickness))
    out *= brightest / (brightest + np.float32(thickness))
    return to_bytes(out)


def plasma(size: int, decay: float, rng: np.random.Generator) -> Floats:
    """Random periodic heights from 0 to 1, by the diamond-square method.

    Fournier, Fussell & Carpenter, "Computer rendering of stochastic models" (1982). All squares, then all diamonds of a
    level are computed at once.

    Args:
        size: of the side; a power of two.
        decay: the divisor of the roughness from one level to the next.
        rng: the random generator.
    """
    heights = np.zeros((size, size), np.float32)
    rough = 100.0
    step = size
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        middles = _midpoints(pairs + np.roll(pairs, -1, axis=1), rough, rng)
        heights[half::step, half::step] = middles
        beside = middles + np.roll(middles, 1, axis=0)
        beside += corners
        beside += np.roll(corners, -1, axis=1)
        above = middles + np.roll(middles, 1, axis=1)
        above += corners
        above += np.roll(corners, -1, axis=0)
        heights[::step, half::step] = _midpoints(beside, rough, rng)
        heights[half::step, ::step] = _midpoints(above, rough, rng)
        step = half
        rough /= decay
    heights -= heights.min()
    heights /= heights.max()
    return heights


def _midpoints(sums: Floats, rough: float, rng: np.random.Generator) -> Floats:
    """The mean of four neighbours, from their sum, plus a random step."""
    steps = rng.random(sums.shape, dtype=np.float32)
    steps *= np.float32(2 * rough * rough)
    steps -= np.float32(rough * rough)
    steps += sums * np.float32(0.25)
    return steps
