"""Batches from two pools: the pictures themselves and, where the data has any, supplementary ones beside them.

A supplement can be twenty times as large as what matters; drawn alike, it would leave that one picture in twenty.
"""

from __future__ import annotations

import numpy as np

from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.sampling import Sampler
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import Material


class Blend:
    """A ``Sampler`` of the main pictures followed by one of the supplement, in every batch.

    Args:
        main: its rows come first.
        supplement: its rows follow.
    """

    def __init__(self, main: Sampler, supplement: Sampler) -> None:
        self._main, self._supplement = main, supplement
        self.batch = main.batch + supplement.batch
        self.steps_per_epoch = main.steps_per_epoch

    def epoch(self, step: int) -> int:
        """How often the main pictures have been gone through before ``step``."""
        return self._main.epoch(step)

    def draw(self, step: int) -> Rows:
        """The rows of the pictures of step ``step``, ``(batch,)``."""
        return np.concatenate([self._main.draw(step), self._supplement.draw(step)])


def sampler_of(material: Material, batch: int, config: TrainConfig) -> Sampler | Blend:
    """What draws the batches of a run."""
    ours, beside = split_batch(material, batch, config)
    main = Sampler(material.concepts, ours, config.seed, config.variants)
    if not beside:
        return main
    return Blend(main, Sampler(material.supplement, beside, config.seed, config.variants))


def split_batch(material: Material, batch: int, config: TrainConfig) -> tuple[int, int]:
    """How many pictures of a batch are main ones, and how many supplementary; no more of either than there are."""
    beside = min(round(config.supplement * batch), batch - 1, len(material.supplement))
    return min(batch - beside, len(material.concepts)), beside
