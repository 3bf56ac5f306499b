"""Batches mixed from two sources: the main images and, if the data has any, supplementary ones.

A supplement can be twenty times as large as the main images; drawn uniformly, it would leave one main image in twenty.
"""

from __future__ import annotations

import numpy as np

from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.sampling import ConceptSampler, RowSampler
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import TrainData


class MixtureSampler:
    """Concatenates the draws of two samplers in every batch.

    Args:
        main: its rows come first.
        supplement: its rows follow.
    """

    def __init__(self, main: ConceptSampler, supplement: ConceptSampler) -> None:
        self._main, self._supplement = main, supplement
        self.batch_size = main.batch_size + supplement.batch_size
        self.steps_per_epoch = main.steps_per_epoch

    def epoch(self, step: int) -> int:
        """The number of complete passes over the main images before ``step``."""
        return self._main.epoch(step)

    def draw(self, step: int) -> Rows:
        """The rows of the images of step ``step``, ``(batch_size,)``."""
        return np.concatenate([self._main.draw(step), self._supplement.draw(step)])


def make_sampler(train_data: TrainData, batch_size: int, config: TrainConfig) -> RowSampler:
    """The sampler of a run."""
    main_size, supplement_size = mixture_sizes(train_data, batch_size, config)
    main = ConceptSampler(train_data.concepts, main_size, config.seed, config.variant_prob)
    if not supplement_size:
        return main
    return MixtureSampler(
        main, ConceptSampler(train_data.supplement, supplement_size, config.seed, config.variant_prob)
    )


def mixture_sizes(train_data: TrainData, batch_size: int, config: TrainConfig) -> tuple[int, int]:
    """The numbers of main and of supplementary images in a batch; at most as many as there are concepts of each."""
    supplement_size = min(round(config.supplement_share * batch_size), batch_size - 1, len(train_data.supplement))
    return min(batch_size - supplement_size, len(train_data.concepts)), supplement_size
