"""Which pictures are learnt from without their captions, and how they look: a pure function of (seed, step).

Shape suffixes: B pictures, N pictures with captions, U pictures without, H and W pixels of the store, C channels,
S side of the model's picture, K random numbers of a picture.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clerestory.core.errors import DataError
from clerestory.stages.train.augment import CHANCES, augment
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks
from clerestory.stages.train.shuffle import Keyed, Order, Rows
from clerestory.stages.train.train_data import Material

PART = 0.6  # side of the part that the student sees of a whole, divided by the whole's


class Pool:
    """All pictures of the training split but skin-tone variants, shuffled anew in every epoch.

    Args:
        material: its pictures with captions come first, then those without.
        batch: pictures in a draw; never more than there are.
        side: S.
        seed: of everything.
        name: pools of different names draw independently.

    Raises:
        DataError: there is one picture or none.
    """

    def __init__(self, material: Material, batch: int, side: int, seed: int, name: str) -> None:
        self._train_NHWC, self._more_UHWC = material.train.pixels_NHWC, material.unlabelled_UHWC
        plain = [row for concept in (*material.concepts, *material.supplement) for row in concept.plain]
        more = range(len(self._train_NHWC), len(self._train_NHWC) + len(self._more_UHWC))
        self._rows = np.array([*sorted(plain), *more], np.int64)
        if len(self._rows) < 2:
            raise DataError("there are fewer than two different pictures to learn from", "bring in more pictures")
        self.batch, self._side, self._seed, self._name = min(batch, len(self._rows)), side, seed, name
        self._order = Order(len(self._rows), Keyed(seed, name).torch_seed(0, "order"))

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, step: int, ranks: Ranks = SINGLE) -> tuple[Rows, Rows]:
        """The rows of one step and the epoch of each, ``(B,)`` both; of several processes each gets its part."""
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        rows = self._rows[self._order.take(step * self.batch, self.batch)]
        even = self.batch - self.batch % ranks.world  # each process needs equally many
        return ranks.mine(rows[:even]), ranks.mine(positions[:even] // len(self._rows))

    def pixels(self, rows: Rows) -> Tensor:
        """Stored pictures, ``(B, H, W, C)`` uint8."""
        first = len(self._train_NHWC)
        out = torch.empty((len(rows), *self._train_NHWC.shape[1:]), dtype=torch.uint8)
        own = torch.from_numpy(rows < first)
        out[own] = self._train_NHWC[rows[rows < first]]
        out[~own] = self._more_UHWC[rows[rows >= first] - first]
        return out

    def view(self, rows: Rows, epochs: Rows, style: float, purpose: str, part: bool = False) -> Tensor:
        """The pictures varied, ``(B, C, S, S)`` in -1..1; another ``purpose`` varies them otherwise.

        Args:
            rows: which pictures.
            epochs: of each.
            style: strength of the style augmentation, 0..1.
            purpose: of the random numbers.
            part: whether only a part of each picture is shown, as large as the whole would be.
        """
        chance_BK = self._chances(rows, epochs, purpose, CHANCES)
        pixels_BHWC = self.pixels(rows)
        if part:
            pixels_BHWC = cut(pixels_BHWC, self._chances(rows, epochs, f"{purpose} part", 2))
        return augment(pixels_BHWC, self._side, style, chance_BK)

    def random(self, step: int, purpose: str) -> torch.Generator:
        """Random numbers of a step that belong to no picture."""
        return torch.Generator().manual_seed(Keyed(self._seed, f"{self._name} {purpose}").torch_seed(step, "step"))

    def _chances(self, rows: Rows, epochs: Rows, purpose: str, count: int) -> NDArray[np.float64]:
        return Keyed(self._seed, f"{self._name} {purpose}").uniforms(epochs, rows, count)


def cut(pixels_BHWC: Tensor, uniform_B2: NDArray[np.float64], share: float = PART) -> Tensor:
    """A square part of each picture, ``share`` of its side, somewhere in it: ``(B, H', W', C)``."""
    side = pixels_BHWC.shape[1]
    small = max(1, round(share * side))
    start_B2 = torch.from_numpy((uniform_B2 * (side - small + 1)).astype(np.int64))
    place = torch.arange(small)
    row_BH1 = (start_B2[:, :1] + place)[:, :, None]
    column_B1W = (start_B2[:, 1:] + place)[:, None, :]
    return pixels_BHWC[torch.arange(len(pixels_BHWC))[:, None, None], row_BH1, column_B1W]
