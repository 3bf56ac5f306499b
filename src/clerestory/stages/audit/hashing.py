"""Perceptual hashes of images: PDQ (256 bits) in all eight orientations, and pHash (64 bits), from one small image.

PDQ is the hash of Facebook's ThreatExchange (*The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing
Algorithm*, 2019). Its low frequencies come from a discrete cosine transform of 64 × 64 means of brightness, so that a
flip of the image changes signs of coefficients and a quarter turn transposes them: the other seven orientations cost
almost nothing. Here the means come from one pass of a Hamming filter over a small image, instead of twice-filtered;
hashes differ from those of the reference by 12 of 256 bits in the median (15 photographs, at most 26), and 31 is the
usual limit of "the same image".

pHash is Zauner's (*Implementation and Benchmarking of Perceptual Image Hash Functions*, 2010): the signs of 8 × 8 low
frequencies about their median.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64  # of the means of brightness
PDQ_SIDE, PDQ_BYTES = 16, 32
PHASH_SIDE = 8
ORIENTATIONS = 8
MIN_SIDE = 104  # of the decoded image, from which the means are exact enough: a quarter of 427, half of 224
MAX_QUALITY = 100
USUAL_QUALITY = 50  # an image of less has too little structure to be recognised by PDQ, says its specification
_GRADIENT_SCALE = 90  # of the specification: the sum of gradients that counts as one point of quality

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ImageHashes:
    """The hashes of N images.

    Attributes:
        pdq: (N, 8, 32) bits as bytes, in the order in which PDQ hashes are written in hexadecimal; orientation 0 is the
            image itself, the others are in the order of ``TURNS``.
        quality: (N,) 0 to 100; below 50 there is too little structure for a hash to mean anything.
        phash: (N,) 64 bits.
    """

    pdq: Codes
    quality: NDArray[np.uint8]
    phash: NDArray[np.uint64]


# The image's orientation as Pillow's operation that makes it; None is the image itself.
TURNS = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
)


def hash_images(means: NDArray[np.uint8]) -> ImageHashes:
    """The hashes of images from their means of brightness (N, 64, 64)."""
    values = means.astype(np.float32)
    transform = _cosines(PDQ_SIDE)
    low = np.matmul(np.matmul(transform, values), transform.T)  # (N, 16, 16), without the constant row and column
    return ImageHashes(_all_orientations(low), _quality(means), _phash(sum_of_fields(means)))


def _all_orientations(low: Floats) -> Codes:
    signs = np.where(np.arange(PDQ_SIDE) % 2 == 0, -1.0, 1.0).astype(np.float32)  # of the frequencies 1 to 16
    across, down = signs[None, None, :], signs[None, :, None]
    upright = [_above_median(each) for each in (low, low * across, low * down, low * across * down)]
    # A turned image has the coefficients of an upright one, transposed, and so their median.
    turned = [np.swapaxes(each, 1, 2) for each in upright]
    each = np.stack([*upright, *turned], axis=1).reshape(len(low), ORIENTATIONS, -1)
    return np.packbits(each[..., ::-1], axis=2)  # the last coefficient first, as PDQ hashes are written


def _above_median(coefficients: Floats) -> NDArray[np.bool_]:
    flat = coefficients.reshape(len(coefficients), -1)
    middle = flat.shape[1] // 2
    median = np.partition(flat, middle - 1, axis=1)[:, middle - 1 : middle]  # the lower one, as in the reference
    above: NDArray[np.bool_] = coefficients > median[..., None]
    return above


def sum_of_fields(means: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The sums (N, 32, 32) of 2 × 2 neighbours of (N, 64, 64)."""
    rows = means[:, ::2].astype(np.uint16) + means[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]


def _quality(means: NDArray[np.uint8]) -> NDArray[np.uint8]:
    values = means.astype(np.int16)
    total = np.zeros(len(means), np.int64)
    for axis in (1, 2):
        steps = np.abs(np.diff(values, axis=axis)) * np.int16(100) // np.int16(255)  # at most 25,500
        total += steps.sum(axis=(1, 2), dtype=np.int64)
    return np.minimum(total // _GRADIENT_SCALE, MAX_QUALITY).astype(np.uint8)


def _phash(fields: NDArray[np.uint16]) -> NDArray[np.uint64]:
    transform = _cosines(PHASH_SIDE, 32, first=0)
    low = np.matmul(np.matmul(transform, fields.astype(np.float32)), transform.T).reshape(len(fields), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    packed = np.packbits(bits, axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view(np.uint64).reshape(-1)


@cache
def _cosines(rows: int, columns: int = SIDE, first: int = 1) -> Floats:
    """Rows ``first``, ``first`` + 1, … of the type II discrete cosine transform of ``columns`` values."""
    frequencies = np.arange(first, first + rows)[:, None]
    places = 2 * np.arange(columns)[None, :] + 1
    waves = np.sqrt(2 / columns) * np.cos(np.pi / 2 / columns * frequencies * places)
    return np.ascontiguousarray(waves, dtype=np.float32)
