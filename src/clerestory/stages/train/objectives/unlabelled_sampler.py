"""Samples images without their captions, and augments them: a pure function of (seed, step).

Shape suffixes: B images, N images with captions, U images without, H and W stored pixels, C channels, S side of the
model's input, K random numbers per image.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clerestory.core.errors import DataError
from clerestory.stages.train.augment import UNIFORMS, augment
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks
from clerestory.stages.train.shuffle import Rows, SampleRng, ShuffledOrder
from clerestory.stages.train.train_data import TrainData

CROP = 0.6  # side of a crop as a fraction of the image's


class UnlabelledSampler:
    """Draws from all images of the training split except skin-tone variants, shuffled anew in every epoch.

    Args:
        train_data: its images with captions come first, then those without.
        batch_size: images in a draw; at most the number of images.
        side: S.
        seed: of all random numbers.
        stream: samplers with different streams draw independently.

    Raises:
        DataError: there are fewer than two images.
    """

    def __init__(self, train_data: TrainData, batch_size: int, side: int, seed: int, stream: str) -> None:
        self._captioned_NHWC, self._unlabelled_UHWC = train_data.train.pixels_NHWC, train_data.unlabelled_UHWC
        captioned = [row for concept in (*train_data.concepts, *train_data.supplement) for row in concept.plain]
        unlabelled = range(len(self._captioned_NHWC), len(self._captioned_NHWC) + len(self._unlabelled_UHWC))
        self._rows = np.array([*sorted(captioned), *unlabelled], np.int64)
        if len(self._rows) < 2:
            raise DataError("self-supervised learning needs at least two different images", "add more images")
        self.batch_size, self._side = min(batch_size, len(self._rows)), side
        self._seed, self._stream = seed, stream
        self._order = ShuffledOrder(len(self._rows), SampleRng(seed, stream).torch_seed(0, "order"))

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, step: int, ranks: Ranks = SINGLE) -> tuple[Rows, Rows]:
        """This process's rows of one step, and the epoch of each, both ``(B,)``."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        rows = self._rows[self._order.take(step * self.batch_size, self.batch_size)]
        even = self.batch_size - self.batch_size % ranks.world_size  # every process needs the same number
        return ranks.shard(rows[:even]), ranks.shard(positions[:even] // len(self._rows))

    def pixels(self, rows: Rows) -> Tensor:
        """The stored images, ``(B, H, W, C)`` uint8."""
        split = len(self._captioned_NHWC)
        out = torch.empty((len(rows), *self._captioned_NHWC.shape[1:]), dtype=torch.uint8)
        captioned = torch.from_numpy(rows < split)
        out[captioned] = self._captioned_NHWC[rows[rows < split]]
        out[~captioned] = self._unlabelled_UHWC[rows[rows >= split] - split]
        return out

    def view(self, rows: Rows, epochs: Rows, style: float, purpose: str, crop: bool = False) -> Tensor:
        """An augmented view of the images, ``(B, C, S, S)`` in -1..1.

        Args:
            rows: of the images.
            epochs: of each.
            style: strength of the style augmentation, 0..1.
            purpose: of the random numbers; different purposes give different views.
            crop: whether to show a random crop of each image, enlarged to the size of the whole image.
        """
        uniform_BK = self._uniforms(rows, epochs, purpose, UNIFORMS)
        pixels_BHWC = self.pixels(rows)
        if crop:
            pixels_BHWC = random_crop(pixels_BHWC, self._uniforms(rows, epochs, f"{purpose} part", 2))
        return augment(pixels_BHWC, self._side, style, uniform_BK)

    def generator(self, step: int, purpose: str) -> torch.Generator:
        """The random numbers of a step that do not belong to an image."""
        seed = SampleRng(self._seed, f"{self._stream} {purpose}").torch_seed(step, "step")
        return torch.Generator().manual_seed(seed)

    def _uniforms(self, rows: Rows, epochs: Rows, purpose: str, count: int) -> NDArray[np.float64]:
        return SampleRng(self._seed, f"{self._stream} {purpose}").uniforms(epochs, rows, count)


def random_crop(pixels_BHWC: Tensor, uniform_B2: NDArray[np.float64], share: float = CROP) -> Tensor:
    """A square crop at a random place in each image, with ``share`` of its side: ``(B, H', W', C)``."""
    side = pixels_BHWC.shape[1]
    crop_side = max(1, round(share * side))
    start_B2 = torch.from_numpy((uniform_B2 * (side - crop_side + 1)).astype(np.int64))
    offset = torch.arange(crop_side)
    row_BH1 = (start_B2[:, :1] + offset)[:, :, None]
    column_B1W = (start_B2[:, 1:] + offset)[:, None, :]
    return pixels_BHWC[torch.arange(len(pixels_BHWC))[:, None, None], row_BH1, column_B1W]
