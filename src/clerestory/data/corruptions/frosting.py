"""Textures of frost, grown from fixed seeds: crystals with feathered edges, grooves between them, fine grain.

Nothing random is left to the caller: texture 3 is the same on every machine. Each is made once in a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image
from scipy import ndimage, spatial

from clerestory.data.corruptions.arrays import Doubles, Floats

HEIGHT, WIDTH = 384, 512


@dataclass(frozen=True)
class Texture:
    """How one texture is grown.

    Attributes:
        crystals: how many crystals grow on the whole of it.
        colour: mean red, green and blue, 0..255.
        spread: standard deviation of the light.
        needles: how many needles a crystal throws per turn.
    """

    crystals: int
    colour: tuple[int, int, int]
    spread: float
    needles: int


TEXTURES = (
    Texture(90, (95, 145, 162), 22, 12),
    Texture(160, (198, 203, 213), 24, 16),
    Texture(60, (190, 198, 210), 26, 24),
    Texture(220, (140, 154, 166), 30, 10),
    Texture(40, (112, 124, 136), 42, 20),
)


def covering(number: int, height: int, width: int) -> Floats:
    """A texture at least as large as the picture, (≥ height, ≥ width, 3), 0..255."""
    scale = max(1.0, height / HEIGHT, width / WIDTH)
    return _scaled(number, ceil(scale * HEIGHT), ceil(scale * WIDTH))


@lru_cache(maxsize=10)
def _scaled(number: int, height: int, width: int) -> Floats:
    texture = _grown(number)
    if (height, width) == texture.shape[:2]:
        return texture
    planes = [
        Image.fromarray(np.ascontiguousarray(texture[..., channel])).resize((width, height), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    scaled: Floats = np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0, 255)
    return scaled


@lru_cache(maxsize=len(TEXTURES))
def _grown(number: int) -> Floats:
    """(H, W, 3) float32: crystals around seeds; each pixel belongs to the seed it is nearest to."""
    kind = TEXTURES[number]
    rng = np.random.Generator(np.random.Philox(number))
    seeds = rng.random((kind.crystals, 2)) * (HEIGHT, WIDTH)
    places = np.moveaxis(np.mgrid[:HEIGHT, :WIDTH], 0, -1).astype(np.float64)
    # Bent space makes edges of crystals run crooked, as ice does.
    for axis in range(2):
        places[..., axis] += 9 * _rough(rng, 12) + 3 * _rough(rng, 3)
    away, owner = spatial.cKDTree(seeds).query(places, k=2)
    to_seed = places - seeds[owner[..., 0]]
    angle = np.arctan2(to_seed[..., 0], to_seed[..., 1]) + (rng.random(kind.crystals) * 2 * np.pi)[owner[..., 0]]
    light = _needles(angle, away[..., 0], kind.needles)
    light += 0.6 * rng.standard_normal(kind.crystals)[owner[..., 0]]
    light += 1.1 * np.exp(-(away[..., 1] - away[..., 0]) / 1.5)
    light += 0.9 * _rough(rng, 60) + 0.5 * _rough(rng, 2) + 0.25 * _rough(rng, 0.6)
    light -= light.mean()
    light *= kind.spread / light.std()
    # Bright ice is whiter: a third of the colour is lost from the mean to white.
    colour = np.array(kind.colour)
    tint = colour - colour.mean()
    white = np.clip(light / 128, -0.5, 1)[..., None]
    grown: Floats = np.clip(colour + light[..., None] - tint * white, 0, 255).astype(np.float32)
    return grown


def _needles(angle: Doubles, away: Doubles, count: int) -> Doubles:
    """Feathers of ice: needles from the seed outwards, each with side branches at an angle."""
    turn = angle * count / (2 * np.pi)
    across = np.abs(turn - np.rint(turn)) * 2 * np.pi / count * away
    needles = np.exp(-across / (0.8 + 0.02 * away))
    branches = 0.5 + 0.5 * np.cos((away - 1.7 * across) * (2 * np.pi / 7))
    return 1.4 * needles + 0.8 * branches * np.exp(-across / 6)


def _rough(rng: np.random.Generator, sigma: float) -> Doubles:
    """Smooth noise with deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), sigma)
    even: Doubles = noise / noise.std()
    return even
