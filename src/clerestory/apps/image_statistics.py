"""Whether an image looks like those that a model was trained on, by simple statistics of its pixels.

A model trained on drawings also has an answer for a photograph, a wrong one, and its own embeddings hardly show that
(AUROC 0.88 for the starter's, with the k-th nearest training image). What differs is on the surface: flat areas, number
of shades, saturation, border. An image is called unlike if its statistics are further from those of a sample of the
training images than 98 % of other training images are. That sample is stored; half of it is JPEG-compressed, so that a
drawing saved as JPEG is still like a drawing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.stats.ood import knn

SIDE = 48
NEIGHBOURS = 5
QUANTILE = 0.98
MIN_IMAGES = 150  # with fewer training images, nothing is fitted
MAX_SHARE = 0.25  # of unlike images, above which a set of images is called unlike
JPEG_QUALITIES = (40, 60, 75, 90)
FLAT = (0.02, 0.06)
EPSILON = 0.01

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The statistics of a sample of training images, and how far from them an image may be.

    Attributes:
        mean: of each statistic.
        scale: the standard deviation of each.
        sample: the standardised statistics of the sample, one row per image.
        max_distance: an image further than this from its fifth-nearest neighbour in the sample is unlike them.
        num_checked: the number of other training images on which false alarms were counted.
        false_alarms: the number of them called unlike.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    sample: tuple[tuple[float, ...], ...]
    max_distance: float
    num_checked: int
    false_alarms: int

    def unlike(self, images: Sequence[Image.Image]) -> list[bool]:
        """Whether each image is unlike the training images."""
        if not images:
            return []
        return [bool(far) for far in self._distances(np.stack([pixel_statistics(image) for image in images]))]

    def unlike_rows(self, statistics_NS: Floats) -> NDArray[np.bool_]:
        """Whether the image of each row of statistics is unlike the training images."""
        return self._distances(statistics_NS)

    def _distances(self, statistics_NS: Floats) -> NDArray[np.bool_]:
        rows_NS = (statistics_NS - np.array(self.mean)) / np.array(self.scale)
        return -knn(rows_NS, np.array(self.sample), NEIGHBOURS, "l2") > self.max_distance


def fit_training_images(images: Sequence[Image.Image]) -> TrainingImages | None:
    """Fit on training images: the first half is the sample, the others set the distance and count false alarms.

    Returns:
        None for fewer than ``MIN_IMAGES`` images.
    """
    if len(images) < MIN_IMAGES:
        return None
    rows_NS = np.stack([pixel_statistics(_recompressed(image, i)) for i, image in enumerate(images)])
    half, quarter = len(rows_NS) // 2, len(rows_NS) // 4
    mean_S, scale_S = rows_NS[:half].mean(axis=0), rows_NS[:half].std(axis=0) + 1e-6
    standardised_NS = np.round((rows_NS - mean_S) / scale_S, 3)
    sample, tuning, checking = np.split(standardised_NS, [half, half + quarter])
    max_distance = float(np.quantile(-knn(tuning, sample, NEIGHBOURS, "l2"), QUANTILE))
    false_alarms = int((-knn(checking, sample, NEIGHBOURS, "l2") > max_distance).sum())
    as_rows = tuple(tuple(float(value) for value in row) for row in sample)
    mean, scale = tuple(map(float, mean_S)), tuple(map(float, scale_S))
    return TrainingImages(mean, scale, as_rows, max_distance, len(checking), false_alarms)


def pixel_statistics(image: Image.Image) -> Floats:
    """Twenty statistics (S) of an image at 48 × 48 pixels: gradients, brightness, saturation, border."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    rgb_HWC = np.asarray(small, dtype=np.float64) / 255
    grey_HW = rgb_HWC.mean(axis=2)
    across, down = (np.abs(np.diff(rgb_HWC, axis=axis)).sum(axis=2) for axis in (1, 0))
    steps = np.concatenate([across.ravel(), down.ravel()])
    counts = np.histogram(grey_HW, 16, (0, 1.0001))[0] / grey_HW.size
    shares = counts[counts > 0]
    saturation_HW = np.ptp(rgb_HWC, axis=2)
    border = np.concatenate([rgb_HWC[0], rgb_HWC[-1], rgb_HWC[:, 0], rgb_HWC[:, -1]])
    return np.array(
        [
            *np.log(np.quantile(steps, [0.1, 0.25, 0.5, 0.75, 0.9]) + EPSILON),
            *((steps < limit).mean() for limit in FLAT),
            -(shares * np.log(shares)).sum(),
            *np.quantile(grey_HW, [0.05, 0.25, 0.5, 0.75, 0.95]),
            saturation_HW.mean(),
            saturation_HW.std(),
            np.log(border.std(axis=0).mean() + EPSILON),
            border.mean(),
            counts.max(),
            np.log(np.median(steps) / (steps.mean() + 1e-3) + EPSILON),
        ]
    )


def _recompressed(image: Image.Image, number: int) -> Image.Image:
    """Every second image as JPEG, of several qualities."""
    if number % 2:
        return image
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=JPEG_QUALITIES[number // 2 % len(JPEG_QUALITIES)])
    return Image.open(out, formats=["JPEG"]).convert("RGB")
