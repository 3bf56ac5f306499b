"""Noise: Gaussian, shot, impulse and speckle noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clerestory.data.corruptions.arrays import Bytes, Doubles, to_bytes
from clerestory.data.corruptions.parameters import PARAMETERS
from clerestory.data.optional import scipy


def gaussian_noise(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Additive noise of the same strength everywhere."""
    (std,) = PARAMETERS["gaussian_noise"][severity - 1]
    noise = rng.standard_normal(image_HWC.shape, dtype=np.float32)
    noise *= np.float32(255 * std)
    noise += image_HWC
    return to_bytes(noise)


def speckle_noise(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Noise in proportion to the brightness."""
    (std,) = PARAMETERS["speckle_noise"][severity - 1]
    noise = rng.standard_normal(image_HWC.shape, dtype=np.float32)
    noise *= np.float32(std)
    noise += np.float32(1)
    noise *= image_HWC
    return to_bytes(noise)


def shot_noise(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Poisson noise of few photons."""
    (photons,) = PARAMETERS["shot_noise"][severity - 1]
    threshold, levels = _alias_tables(int(photons))
    cells = len(threshold) // 256
    bits = rng.integers(0, 2**32, size=image_HWC.shape, dtype=np.uint32)
    # The low bits choose a cell, the high ones one of its two levels.
    index = np.bitwise_and(bits, np.uint32(cells - 1)).astype(np.intp)
    index += np.multiply(image_HWC, cells, dtype=np.intp)
    second = bits >= threshold.take(index)
    index <<= 1
    index += second
    return levels.take(index)


@lru_cache(maxsize=8)
def _alias_tables(max_count: int) -> tuple[NDArray[np.uint32], Bytes]:
    """Walker's alias tables ("An efficient method for generating discrete random variables", 1977), one for each value.

    Exact to 2⁻²⁶ and many times faster than sampling Poisson distributions with 256 different means.

    Args:
        max_count: the number of photons at full white; more are clipped.

    Returns:
        (256·cells,) the bits below which the first level is used, and (256·cells·2,) the two levels of every cell.
    """
    cells = 1 << max_count.bit_length()
    rest = _count_probabilities(max_count, cells) * cells
    threshold = np.ones((256, cells))
    other = np.tile(np.arange(cells), (256, 1))
    values = np.arange(256)
    open_cells = np.ones((256, cells), dtype=bool)
    for _ in range(cells - 1):
        # The emptiest open cell is filled from the fullest one, and closed.
        low = np.where(open_cells, rest, np.inf).argmin(axis=1)
        high = np.where(open_cells, rest, -np.inf).argmax(axis=1)
        threshold[values, low] = np.minimum(rest[values, low], 1)
        other[values, low] = high
        open_cells[values, low] = False
        rest[values, high] -= 1 - threshold[values, low]
    bounds = np.minimum(np.rint(threshold * 2**32), 2**32 - 1).astype(np.uint32)
    counts = np.stack([np.tile(np.arange(cells), (256, 1)), other], axis=-1)
    return bounds.reshape(-1), to_bytes(np.minimum(counts / max_count, 1) * 255).reshape(-1)


def _count_probabilities(max_count: int, cells: int) -> Doubles:
    """(256, cells) the probability of each count of photons, with ``max_count`` and more combined."""
    counts = np.arange(max_count)
    mean = np.arange(256)[:, None] / 255 * max_count
    shares = np.zeros((256, cells))
    shares[:, :max_count] = np.exp(scipy.special.xlogy(counts, mean) - mean - scipy.special.gammaln(counts + 1))
    shares[:, max_count] = np.maximum(1 - shares.sum(axis=1), 0)
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
