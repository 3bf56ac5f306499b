"""Randomness that two implementations can share, and the picture both corrupt. Only numpy and scipy are needed."""

from __future__ import annotations

import numpy as np
from scipy import special


class Scripted:
    """Stands in for ``numpy.random`` and for a ``Generator``: the same numbers in order, in whatever pieces.

    The numbers are splitmix64 of a counter (Steele, Lea & Flood 2014), so that they do not hang on a numpy version.
    """

    def __init__(self, start: int = 1) -> None:
        self.counter = start << 32

    def random(self, size=None, dtype=np.float64):
        """Numbers between 0 and 1, both excluded."""
        count = int(np.prod(size)) if size is not None else 1
        z = np.arange(self.counter, self.counter + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self.counter += count
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        numbers = ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
        return numbers[0] if size is None else numbers.reshape(size).astype(dtype)

    def uniform(self, low=0.0, high=1.0, size=None):
        """Numbers from ``low`` to ``high``."""
        return low + (high - low) * self.random(size)

    def standard_normal(self, size=None, dtype=np.float64):
        """Normal numbers, by the inverse of their distribution."""
        return special.ndtri(self.random(size)).astype(dtype)

    def normal(self, loc=0.0, scale=1.0, size=None):
        """Normal numbers of a mean and a deviation."""
        return loc + scale * self.standard_normal(size)

    def integers(self, low, high, size=None, dtype=np.int64):
        """Whole numbers from ``low``, ``high`` excluded."""
        return (low + np.floor((high - low) * self.random(size))).astype(dtype)

    randint = integers


def picture(height: int = 64, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8: a slope of colours with a disk, a dark bar, a white, a black and a grey corner."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = np.stack([255 * x / width, 255 * y / height, 255 - 255 * (x + y) / (height + width)], axis=-1)
    image[(y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 5) ** 2] = (230, 60, 20)
    image[(x + y).astype(int) % 19 < 3] *= 0.5
    edge = min(height, width) // 6
    image[:edge, :edge] = 255
    image[:edge, -edge:] = 0
    image[-edge:, :edge] = 128
    return image.astype(np.uint8)
