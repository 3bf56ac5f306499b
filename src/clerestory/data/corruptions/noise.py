"""Noise: of the sensor, of too little light, of broken pixels, and noise that grows with the light."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from clerestory.data.corruptions.arrays import Bytes, Doubles, to_bytes
from clerestory.data.corruptions.parameters import PARAMETERS


def gaussian_noise(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Noise of the same strength everywhere."""
    (spread,) = PARAMETERS["gaussian_noise"][severity - 1]
    noise = rng.standard_normal(image_HWC.shape, dtype=np.float32)
    noise *= np.float32(255 * spread)
    noise += image_HWC
    return to_bytes(noise)


def speckle_noise(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Noise in proportion to the light."""
    (spread,) = PARAMETERS["speckle_noise"][severity - 1]
    noise = rng.standard_normal(image_HWC.shape, dtype=np.float32)
    noise *= np.float32(spread)
    noise += np.float32(1)
    noise *= image_HWC
    return to_bytes(noise)


def shot_noise(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Poisson noise: few photons arrive."""
    (photons,) = PARAMETERS["shot_noise"][severity - 1]
    stay, levels = _photons(int(photons))
    cells = len(stay) // 256
    bits = rng.integers(0, 2**32, size=image_HWC.shape, dtype=np.uint32)
    # The low bits choose a cell, the high ones which of its two levels is taken.
    index = np.bitwise_and(bits, np.uint32(cells - 1)).astype(np.intp)
    index += np.multiply(image_HWC, cells, dtype=np.intp)
    second = bits >= stay.take(index)
    index <<= 1
    index += second
    return levels.take(index)


@lru_cache(maxsize=8)
def _photons(most: int) -> tuple[NDArray[np.uint32], Bytes]:
    """Walker's alias tables ("An efficient method for generating discrete random variables", 1977), one for each value.

    Exact to 2⁻²⁶ and many times faster than drawing from a Poisson distribution with 256 different means.

    Args:
        most: the count of photons that is full white; more are white too.

    Returns:
        (256·cells,) below which bits the first level is taken, and (256·cells·2,) the two levels of every cell.
    """
    cells = 1 << most.bit_length()
    rest = _shares(most, cells) * cells
    stay = np.ones((256, cells))
    other = np.tile(np.arange(cells), (256, 1))
    values = np.arange(256)
    open_cells = np.ones((256, cells), dtype=bool)
    for _ in range(cells - 1):
        # The emptiest open cell is filled up from the fullest one, and closed.
        low = np.where(open_cells, rest, np.inf).argmin(axis=1)
        high = np.where(open_cells, rest, -np.inf).argmax(axis=1)
        stay[values, low] = np.minimum(rest[values, low], 1)
        other[values, low] = high
        open_cells[values, low] = False
        rest[values, high] -= 1 - stay[values, low]
    bounds = np.minimum(np.rint(stay * 2**32), 2**32 - 1).astype(np.uint32)
    counts = np.stack([np.tile(np.arange(cells), (256, 1)), other], axis=-1)
    return bounds.reshape(-1), to_bytes(np.minimum(counts / most, 1) * 255).reshape(-1)


def _shares(most: int, cells: int) -> Doubles:
    """(256, cells) the probability of each count of photons, all of ``most`` and more in one."""
    counts = np.arange(most)
    mean = np.arange(256)[:, None] / 255 * most
    shares = np.zeros((256, cells))
    shares[:, :most] = np.exp(special.xlogy(counts, mean) - mean - special.gammaln(counts + 1))
    shares[:, most] = np.maximum(1 - shares.sum(axis=1), 0)
    return shares


def impulse_noise(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Salt and pepper: single values stuck at black or at white."""
    (share,) = PARAMETERS["impulse_noise"][severity - 1]
    bits = rng.integers(0, 2**32, size=image_HWC.shape, dtype=np.uint32)
    half = round(share / 2 * 2**32)
    out = image_HWC.copy()
    out[bits < np.uint32(half)] = 0
    out[bits >= np.uint32(2**32 - half)] = 255
    return out
