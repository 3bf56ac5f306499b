"""The interface of objectives: the training loss is a sum of objectives, each with one or more terms.

Shape suffixes: B images, C channels, S side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clerestory.models.model import ClerestoryModel
from clerestory.stages.train.config import ResolvedConfig
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks
from clerestory.stages.train.monitor.instrumentation import Instrumentation
from clerestory.stages.train.sampling import draw_captions
from clerestory.stages.train.sharding import shard
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import TrainData

Precision = Callable[[], AbstractContextManager[object]]


class LossTerm(NamedTuple):
    """One term of the loss: the log contains ``value``, the step minimises ``weight * value``."""

    value: Tensor
    weight: float = 1.0


def total_loss(terms: Mapping[str, LossTerm]) -> Tensor:
    """The weighted sum of the terms."""
    return torch.stack([term.weight * term.value for term in terms.values()]).sum()


@dataclass(frozen=True)
class StepContext:
    """The inputs of the objectives in one step.

    Attributes:
        number: of the step, counted from 0.
        epoch: complete passes over the data before it.
        rows: the rows of ``train_data.train`` in the batch, ``(B,)``.
        pixels_BCSS: their augmented images, in -1..1.
        model: the model in training.
        train_data: the data of the run.
        settings: of the run.
        instrumentation: measures the step for the log and the monitor.
        ranks: the processes that share the batch; rows and pixels are this process's shard, and losses are means over
            it.
    """

    number: int
    epoch: int
    rows: Rows
    pixels_BCSS: Tensor
    model: ClerestoryModel
    train_data: TrainData
    settings: ResolvedConfig
    instrumentation: Instrumentation
    ranks: Ranks = SINGLE

    def caption_rows(self, count: int | None = None) -> Tensor:
        """The caption that each image is trained on in this epoch, as rows of ``train_data.train.texts_ME``.

        Args:
            count: of the first images; None for all.
        """
        rows = self.rows[:count]
        captions_N, seed = self.train_data.train.all_captions, self.settings.config.seed
        return torch.from_numpy(draw_captions(captions_N, rows, np.full(len(rows), self.epoch), seed))

    def micro_batch(self, index: int, count: int) -> StepContext:
        """Micro-batch ``index`` of ``count``."""
        return replace(self, rows=shard(self.rows, index, count), pixels_BCSS=shard(self.pixels_BCSS, index, count))


class Objective(nn.Module, ABC):
    """A part of the training loss. Its parameters are trained with the model's; its state is in every checkpoint.

    Buffers with ``persistent=False`` are not. The model itself must not be an attribute: it comes with the context.

    Attributes:
        name: prefix of its state in the checkpoint.
    """

    name: str

    @abstractmethod
    def losses(self, step: StepContext) -> dict[str, LossTerm]:
        """The terms of the loss, by their names in the log, which no other objective may use."""

    def backward(self, step: StepContext, micro_batches: int, precision: Precision) -> dict[str, LossTerm]:
        """Add the gradients of ``losses`` to the parameters and return the terms.

        Args:
            step: the whole batch.
            micro_batches: the number in which the batch may go through the model; an objective with batches of its
                own processes these whole.
            precision: makes the autocast context of the forward passes.
        """
        with precision():
            terms = self.losses(step)
        if terms:
            total_loss(terms).backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        return terms

    def on_export(self, model: ClerestoryModel) -> None:
        """Called before the model is written to a folder, to store what was learned outside its weights."""

    def after_step(self, step: StepContext) -> None:
        """Called after each step of the optimizer, but not after a skipped one."""
