"""Images that show a part of one another: crops, and images with a bar added or written over at one side.

A hash of the whole image does not recognise them. Images with similar shares of colours, which a crop changes little,
are proposed as pairs; every window of one image that could be the other is compared with it at 16 × 16 fields; and the
best window is confirmed at 64 × 64 pixels of the decoded images, at places and sizes around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import Progress
from clerestory.core.sample import Dataset
from clerestory.data.images import decode_sample
from clerestory.stages.audit.image_facts import THUMB_SIDE

NEIGHBOURS = 32  # proposed for each image,
MIN_COLOUR_SIMILARITY = 0.8  # if their colours are this similar
FIELDS = 16  # a side, at which windows are compared
SIZES = (32, 30, 29, 28, 27, 26, 24, 22)  # of a window, of 32 fields: down to a crop of 31 % of each side
PROPOSED, CONFIRMED = (
    0.78,
    0.96,
)  # least correlations; confirmed are at least 0.971 in 500 true pairs, at most 0.948 in others
MAX_COLOUR_DIFFERENCE = 4.5  # mean of 255: at most 2.1 in those pairs
HOPELESS = 0.6  # correlation after the first moves of a window's edges, below which a pair is given up
SIDE = 64  # pixels at which a window is confirmed,
DECODED = 192  # to which an image is reduced first
STEPS = (0.015, 0.007, 0.003)  # by which a window's edges move, as shares of the side
MAX_DECODED = 512  # images kept
BLOCK = 1024
Floats = NDArray[np.float32]
Window = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the sides
_Channels = tuple[Image.Image, ...]  # Y, Cb, Cr
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class PartialCopy:
    """One image is a window of another.

    Attributes:
        whole, part: positions of the two samples.
        window: left, top, right, bottom, as shares of the sides of the whole.
        correlation: of the brightness of the window and the part.
    """

    whole: int
    part: int
    window: Window
    correlation: float


def find_partial_copies(
    data: Dataset, facts: NDArray[np.void], places: NDArray[np.int64], progress: Progress
) -> list[PartialCopy]:
    """Find images that are a window of another.

    Args:
        data: the dataset.
        facts: about the image of each sample.
        places: the samples to compare: one of each image, with enough structure.
        progress: reports the images.
    """
    proposed = _proposed(facts[places], progress)
    confirm = _Confirmation(data)
    found: dict[tuple[int, int], PartialCopy] = {}
    with progress.task("Confirming crops", len(proposed)) as bar:
        for whole, part, window, _ in sorted(proposed, key=lambda each: (min(each[:2]), max(each[:2]), -each[3])):
            pair = int(places[whole]), int(places[part])
            key = min(pair), max(pair)
            if key not in found:
                copy = confirm(*pair, window)
                if copy is not None:
                    found[key] = copy
            bar.advance()
    return [found[key] for key in sorted(found)]


@dataclass(frozen=True)
class _Windows:
    """Linear operators from 32 to 16 fields along one axis, for every window, and its ends as shares."""

    operators: Floats  # (windows, 16, 32)
    ends: NDArray[np.float64]  # (windows, 2)

    def views(self, thumb: Floats, pairs: NDArray[np.int64]) -> Floats:
        """The windows (pairs, 256) of an image (32, 32), for each pair of a window down and one across."""
        flat = self.operators.reshape(-1, THUMB_SIDE)
        everything = (flat @ thumb @ flat.T).reshape(len(self.ends), FIELDS, len(self.ends), FIELDS)
        chosen: Floats = everything[pairs[:, 0], :, pairs[:, 1]].reshape(len(pairs), -1).astype(np.float32, copy=False)
        return chosen


def _axis_windows() -> _Windows:
    operators = []
    ends = []
    for size in SIZES:
        for start in range(THUMB_SIDE - size + 1):
            edges = start + np.arange(FIELDS + 1) * size / FIELDS
            fields = np.arange(THUMB_SIDE)
            low = np.maximum(edges[:-1, None], fields[None])
            high = np.minimum(edges[1:, None], fields[None] + 1)
            operators.append(np.clip(high - low, 0, None) / (size / FIELDS))
            ends.append((start / THUMB_SIDE, (start + size) / THUMB_SIDE))
    return _Windows(np.array(operators).astype(np.float32), np.array(ends))


def _window_pairs(ends: NDArray[np.float64]) -> NDArray[np.int64]:
    """The windows of the two axes that are used together: crops of about the same size along both, and bars."""
    sizes = ends[:, 1] - ends[:, 0]
    pairs = []
    for down, height in enumerate(sizes):
        for across, width in enumerate(sizes):
            is_bar = max(height, width) == 1.0
            if (abs(height - width) < 0.07 or is_bar) and min(height, width) < 1.0:
                pairs.append((down, across))
    return np.array(pairs, dtype=np.int64)


def _proposed(facts: NDArray[np.void], progress: Progress) -> list[tuple[int, int, Window, float]]:
    """Pairs (whole, part), the best window and its correlation."""
    if len(facts) < 2:
        return []
    windows = _axis_windows()
    pairs = _window_pairs(windows.ends)
    colours = facts["colours"].astype(np.float32)
    colours /= np.maximum(np.linalg.norm(colours, axis=1, keepdims=True), 1e-6)
    thumbs = facts["thumb"].astype(np.float32)
    parts = _standardise(thumbs.reshape(-1, FIELDS, 2, FIELDS, 2).mean(axis=(2, 4)).reshape(len(thumbs), -1))
    count = min(NEIGHBOURS, len(facts) - 1)
    found = []
    with progress.task("Comparing crops", len(facts)) as bar:
        for start in range(0, len(facts), BLOCK):
            alike = colours[start : start + BLOCK] @ colours.T
            own = np.arange(len(alike))
            alike[own, own + start] = -1.0
            near = np.argpartition(-alike, count - 1, axis=1)[:, :count]
            for i in range(len(alike)):
                whole = start + i
                likely = near[i][alike[i, near[i]] >= MIN_COLOUR_SIMILARITY]
                if not len(likely):
                    continue
                scores = _standardise(windows.views(thumbs[whole], pairs)) @ parts[likely].T
                best = scores.argmax(axis=0)
                for place in np.flatnonzero(scores.max(axis=0) >= PROPOSED).tolist():
                    window = pairs[best[place]]
                    (top, bottom), (left, right) = windows.ends[window[0]], windows.ends[window[1]]
                    score = float(scores[best[place], place])
                    found.append(
                        (whole, int(likely[place]), (float(left), float(top), float(right), float(bottom)), score)
                    )
            bar.advance(len(alike))
    return found


def _standardise(flat: Floats) -> Floats:
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return flat


class _Confirmation:
    """Compares a window of one decoded image with another one."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self._small = lru_cache(MAX_DECODED)(self._decode)

    def _decode(self, place: int) -> _Channels | None:
        try:
            image = decode_sample(self._data, self._data.samples[place])
        except (ClerestoryError, OSError):
            return None
        return image.resize((DECODED, DECODED), Image.Resampling.BOX, reducing_gap=2.0).convert("YCbCr").split()

    def __call__(self, whole: int, part: int, window: Window) -> PartialCopy | None:
        one, other = self._small(whole), self._small(part)
        if one is None or other is None:
            return None
        target = _brightness(other, WHOLE)
        best, score = window, -1.0
        for step in STEPS:
            for side in (0, 2, 1, 3):  # one edge after another
                tried = [_moved(best, side, times * step) for times in (-2, -1, 0, 1, 2)]
                scores = [_correlation(_brightness(one, each), target) for each in tried]
                at = int(np.argmax(scores))
                best, score = tried[at], scores[at]
            if score < HOPELESS:
                return None
        if score < CONFIRMED or np.abs(_colours(one, best) - _colours(other, WHOLE)).mean() > MAX_COLOUR_DIFFERENCE:
            return None
        return PartialCopy(whole, part, best, score)


def _moved(window: Window, side: int, by: float) -> Window:
    edges = list(window)
    edges[side] = min(1.0, max(0.0, edges[side] + by))
    return edges[0], edges[1], edges[2], edges[3]


def _brightness(image: _Channels, window: Window) -> Floats:
    """The brightness (64, 64) of a window of an image in YCbCr."""
    return _view(image[0], window)


def _colours(image: _Channels, window: Window) -> Floats:
    """The colours (2, 64, 64) of a window of an image in YCbCr."""
    return np.stack([_view(image[channel], window) for channel in (1, 2)])


def _view(channel: Image.Image, window: Window) -> Floats:
    left, top, right, bottom = (edge * DECODED for edge in window)
    small = channel.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(small, dtype=np.float32)


def _correlation(one: Floats, other: Floats) -> float:
    first, second = (one - one.mean()).ravel(), (other - other.mean()).ravel()
    return float(first @ second) / max(1e-6, float(np.sqrt((first @ first) * (second @ second))))
