"""Frost textures, generated from fixed seeds: crystals with feathered edges, grooves between them, fine grain.

They do not depend on the caller: texture 3 is the same on every machine. Each is generated once per process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from clerestory.data.corruptions.arrays import Doubles, Floats
from clerestory.data.optional import scipy

HEIGHT, WIDTH = 384, 512


@dataclass(frozen=True)
class Texture:
    """The parameters of one texture.

    Attributes:
        crystals: the number of crystals.
        colour: mean red, green and blue, 0..255.
        std: standard deviation of the brightness.
        needles: the number of needles around a crystal.
    """

    crystals: int
    colour: tuple[int, int, int]
    std: float
    needles: int


TEXTURES = (
    Texture(90, (95, 145, 162), 22, 12),
    Texture(160, (198, 203, 213), 24, 16),
    Texture(60, (190, 198, 210), 26, 24),
    Texture(220, (140, 154, 166), 30, 10),
    Texture(40, (112, 124, 136), 42, 20),
)


def random_crop(number: int, height: int, width: int, rng: np.random.Generator) -> Floats:
    """A random crop of a texture, (height, width, 3), 0..255; the texture is enlarged if it is too small."""
    texture = _texture(number)
    scale = max(1.0, 1.1 * height / HEIGHT, 1.1 * width / WIDTH)
    if scale == 1:
        top, left = int(rng.integers(HEIGHT - height + 1)), int(rng.integers(WIDTH - width + 1))
        return texture[top : top + height, left : left + width]
    tall, wide = height / scale, width / scale
    lower, right = rng.random() * (HEIGHT - tall), rng.random() * (WIDTH - wide)
    box = (right, lower, right + wide, lower + tall)
    planes = [
        Image.fromarray(np.ascontiguousarray(texture[..., channel])).resize(
            (width, height), Image.Resampling.BICUBIC, box=box
        )
        for channel in range(3)
    ]
    crop: Floats = np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0, 255)
    return crop


@lru_cache(maxsize=len(TEXTURES))
def _texture(number: int) -> Floats:
    """(H, W, 3) float32: crystals around seeds; each pixel is part of the crystal of its nearest seed."""
    params = TEXTURES[number]
    rng = np.random.Generator(np.random.Philox(number))
    seeds = rng.random((params.crystals, 2)) * (HEIGHT, WIDTH)
    positions = np.moveaxis(np.mgrid[:HEIGHT, :WIDTH], 0, -1).astype(np.float64)
    # Distorted coordinates give the crystals irregular edges, like those of ice.
    for axis in range(2):
        positions[..., axis] += 9 * _smooth_noise(rng, 12) + 3 * _smooth_noise(rng, 3)
    distance, nearest = scipy.spatial.cKDTree(seeds).query(positions, k=2)
    to_seed = positions - seeds[nearest[..., 0]]
    angle = np.arctan2(to_seed[..., 0], to_seed[..., 1]) + (rng.random(params.crystals) * 2 * np.pi)[nearest[..., 0]]
    light = _needles(angle, distance[..., 0], params.needles)
    light += 0.6 * rng.standard_normal(params.crystals)[nearest[..., 0]]
    light += 1.1 * np.exp(-(distance[..., 1] - distance[..., 0]) / 1.5)
    light += 0.9 * _smooth_noise(rng, 60) + 0.5 * _smooth_noise(rng, 2) + 0.25 * _smooth_noise(rng, 0.6)
    light -= light.mean()
    light *= params.std / light.std()
    # Bright ice is whiter: the tint fades from the mean towards white.
    colour = np.array(params.colour)
    tint = colour - colour.mean()
    white = np.clip(light / 128, -0.5, 1)[..., None]
    texture: Floats = np.clip(colour + light[..., None] - tint * white, 0, 255).astype(np.float32)
    return texture


def _needles(angle: Doubles, distance: Doubles, count: int) -> Doubles:
    """Feathers of ice: needles from the seed outwards, each with side branches at an angle."""
    turn = angle * count / (2 * np.pi)
    across = np.abs(turn - np.rint(turn)) * 2 * np.pi / count * distance
    needles = np.exp(-across / (0.8 + 0.02 * distance))
    branches = 0.5 + 0.5 * np.cos((distance - 1.7 * across) * (2 * np.pi / 7))
    return 1.4 * needles + 0.8 * branches * np.exp(-across / 6)


def _smooth_noise(rng: np.random.Generator, sigma: float) -> Doubles:
    """Smooth noise with a standard deviation of 1."""
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), sigma)
    scaled: Doubles = noise / noise.std()
    return scaled
