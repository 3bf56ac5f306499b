"""Samples that show the same image: the same bytes, the same pixels, or nearly the same image.

Pairs are proposed by PDQ hashes in all eight orientations, and confirmed by two other views of the image: means of
brightness in 32 × 32 fields, compared as if both images had the same exposure, and means of colour in 8 × 8. Not only
their mean must be alike but every place of the image: a clock that shows nine and one that shows half past three, or
hands of two skin tones, are two images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import Progress
from clerestory.core.sample import Dataset
from clerestory.data.images import decode_sample
from clerestory.stages.audit.hamming import group_pairs, near_pairs
from clerestory.stages.audit.hashing import ORIENTATIONS
from clerestory.stages.audit.image_facts import THUMB_SIDE

CopyKind = Literal["same bytes", "same pixels", "nearly the same"]

PROPOSED_BITS = 47  # of 256: the most that differ in a pair that is compared further
MIN_CORRELATION = 0.95  # of the means of brightness,
UNLIKE_FIELDS = 10  # of which fewer than 10 of 1,024
MAX_DIFFERENCE = 64.0  # differ by more than 64 of 255; a photograph of 75 pixels and of 224: at most 50
MAX_COLOUR_DIFFERENCE = 14.0  # of any field, of 255; JPEG of quality 30: at most 3, a third of the size: 6
BLOCK = 20_000  # pairs
# How an array (H, W) of a turned image is turned back, in the order of hashing.TURNS.
_TURNED = (
    lambda a: a,
    lambda a: a[:, :, ::-1],
    lambda a: a[:, ::-1],
    lambda a: a[:, ::-1, ::-1],
    lambda a: a.swapaxes(1, 2),
    lambda a: a.swapaxes(1, 2)[:, ::-1],
    lambda a: a.swapaxes(1, 2)[:, :, ::-1],
    lambda a: a.swapaxes(1, 2)[:, ::-1, ::-1],
)


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """The copies in a dataset.

    Attributes:
        kinds: what is the same, by pair of sample positions (first < second).
        groups: positions of samples that show the same image, by any chain of pairs; each ascending.
        left_out: comparisons left out because too many images have similar hashes.
    """

    kinds: dict[tuple[int, int], CopyKind]
    groups: tuple[tuple[int, ...], ...]
    left_out: int

    def groups_of(self, *kinds: CopyKind) -> list[list[int]]:
        """Groups that pairs of these kinds make."""
        pairs = np.array([pair for pair, kind in self.kinds.items() if kind in kinds], dtype=np.int64).reshape(-1, 2)
        return group_pairs(pairs[:, 0], pairs[:, 1], int(pairs.max(initial=0)) + 1)


def find_near_duplicates(
    data: Dataset, facts: NDArray[np.void], min_quality: int, progress: Progress
) -> NearDuplicates:
    """Find samples that show the same image.

    Args:
        data: the dataset.
        facts: about the image of each sample (``read_image_facts``).
        min_quality: of a PDQ hash that means something; images of less structure are only compared byte by byte.
        progress: reports the orientations.
    """
    firsts: dict[str, int] = {}
    kinds: dict[tuple[int, int], CopyKind] = {}
    for place, sample in enumerate(data):
        first = firsts.setdefault(sample.image, place)
        if first != place:
            kinds[first, place] = "same bytes"
    usable = [p for p in firsts.values() if facts["width"][p] and facts["quality"][p] >= min_quality]
    places = np.array(usable, dtype=np.int64)
    pairs, left_out = _confirmed_pairs(facts[places], progress)
    samples = data.samples
    for one, other, distance, turned in pairs:
        first, second = sorted((int(places[one]), int(places[other])))
        same = distance == 0 and not turned and _same_pixels(data, first, second, facts)
        kinds[first, second] = "same pixels" if same else "nearly the same"
    ends = np.array(list(kinds), dtype=np.int64).reshape(-1, 2)
    groups = group_pairs(ends[:, 0], ends[:, 1], len(samples))
    return NearDuplicates(kinds, tuple(map(tuple, groups)), left_out)


def _confirmed_pairs(facts: NDArray[np.void], progress: Progress) -> tuple[list[tuple[int, int, int, bool]], int]:
    """Positions, distance and whether one is turned, of each pair that shows the same image, and what was left out."""
    found: dict[tuple[int, int], tuple[int, bool]] = {}
    left_out = 0
    upright = np.ascontiguousarray(facts["pdq"][:, 0])
    thumbs = _standardised(facts["thumb"])
    with progress.task("Comparing hashes", ORIENTATIONS) as bar:
        for turn in range(ORIENTATIONS if len(facts) > 1 else 0):
            turned = None if turn == 0 else np.ascontiguousarray(facts["pdq"][:, turn])
            pairs = near_pairs(upright, turned, radius=PROPOSED_BITS)
            left_out += pairs.left_out
            keep = pairs.first != pairs.second  # an image that is its own mirror image
            first, second, distance = pairs.first[keep], pairs.second[keep], pairs.distance[keep]
            for start in range(0, len(first), BLOCK):
                block = slice(start, start + BLOCK)
                same = _shows_the_same(facts, thumbs, first[block], second[block], turn)
                for one, other, bits in zip(
                    first[block][same].tolist(),
                    second[block][same].tolist(),
                    distance[block][same].tolist(),
                    strict=True,
                ):
                    found.setdefault((min(one, other), max(one, other)), (bits, turn > 0))
            bar.advance()
    return [(one, other, *rest) for (one, other), rest in sorted(found.items())], left_out


def _shows_the_same(
    facts: NDArray[np.void],
    thumbs: NDArray[np.float32],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    turn: int,
) -> NDArray[np.bool_]:
    """Whether the first image of each pair is the second one turned."""
    side = THUMB_SIDE
    own, other = thumbs[first], _TURNED[turn](thumbs[second].reshape(-1, side, side)).reshape(len(second), -1)
    correlation = np.einsum("nd,nd->n", own, other)
    contrast = facts["thumb"][first].reshape(len(first), -1).std(axis=1) * side  # of one of the norm 1, in brightness
    differences = np.abs(own - other) * contrast[:, None]
    unlike = np.partition(differences, -UNLIKE_FIELDS, axis=1)[:, -UNLIKE_FIELDS]
    chroma, turned = (
        facts["chroma"][first].astype(np.float32),
        _TURNED[turn](facts["chroma"][second].astype(np.float32)),
    )
    colours = np.abs(chroma - turned).max(axis=(1, 2, 3))
    same: NDArray[np.bool_] = (
        (correlation >= MIN_CORRELATION) & (unlike <= MAX_DIFFERENCE) & (colours <= MAX_COLOUR_DIFFERENCE)
    )
    return same


def _standardised(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = thumbs.reshape(len(thumbs), THUMB_SIDE**2).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return flat


def _same_pixels(data: Dataset, first: int, second: int, facts: NDArray[np.void]) -> bool:
    """Whether two images whose hashes are equal have the same pixels."""
    if any(facts[side][first] != facts[side][second] for side in ("width", "height")):
        return False
    try:
        one, other = (decode_sample(data, data.samples[place]) for place in (first, second))
    except (ClerestoryError, OSError):
        return False
    return one.size == other.size and one.tobytes() == other.tobytes()
