"""What a training run minimises: a sum of objectives, each with parts of its own.

Shape suffixes: B pictures, C channels, S side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from clerestory.models.model import ClerestoryModel
from clerestory.stages.train.config import Settings
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks
from clerestory.stages.train.monitor.instrumentation import Instrumentation
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import Material

if TYPE_CHECKING:
    from clerestory.stages.train.loop import Run


Precision = Callable[[], AbstractContextManager[object]]


class Part(NamedTuple):
    """One part of the loss: the log shows ``value`` by its name, the step minimises ``weight * value``."""

    value: Tensor
    weight: float = 1.0


def total(parts: Mapping[str, Part]) -> Tensor:
    """What a step minimises."""
    return torch.stack([part.weight * part.value for part in parts.values()]).sum()


@dataclass(frozen=True)
class StepContext:
    """One step as the objectives see it.

    Attributes:
        number: of the step, counted from 0.
        epoch: how often everything has been gone through before.
        rows: which of ``material.train`` are learnt from, ``(B,)``.
        pixels_BCSS: these pictures, augmented, in -1..1.
        model: what learns.
        material: what is learnt from.
        settings: of the run.
        instrumentation: what measures the run; ``is_check`` and ``is_full_check`` say whether this step is measured.
        ranks: the processes that share the batch; what is here is this one's part, and the loss is a mean over them.
    """

    number: int
    epoch: int
    rows: Rows
    pixels_BCSS: Tensor
    model: ClerestoryModel
    material: Material
    settings: Settings
    instrumentation: Instrumentation
    ranks: Ranks = SINGLE

    def piece(self, first: int, pieces: int) -> StepContext:
        """Every ``pieces``-th sample from ``first`` on, so that the first samples of a batch are spread evenly."""
        return replace(self, rows=self.rows[first::pieces], pixels_BCSS=self.pixels_BCSS[first::pieces])


class Objective(nn.Module, ABC):
    """Something to be learnt; its parameters are trained with the model's, its state is in every checkpoint.

    What is kept as a buffer with ``persistent=False`` is not. The model itself must not be an attribute: it comes with
    the context.

    Attributes:
        name: in the checkpoint.
    """

    name: str

    @abstractmethod
    def losses(self, step: StepContext) -> dict[str, Part]:
        """The parts of the loss by the names the log gives them; two objectives must not share a name."""

    def learn(self, step: StepContext, pieces: int, precision: Precision) -> dict[str, Part]:
        """Add the gradients of ``losses`` to the parameters and return the parts.

        Args:
            step: the whole batch.
            pieces: in which it may go through the model; what has batches of its own takes these whole.
            precision: makes the autocast that forward passes run in.
        """
        with precision():
            parts = self.losses(step)
        if parts:
            total(parts).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        return parts

    def before_keep(self, model: ClerestoryModel) -> None:
        """Called before the model is written to a folder: the place to tell it what was learnt beside its weights."""

    def after_step(self, run: Run) -> None:
        """Called after each step of the optimizer; not after one that was skipped because it was not finite."""
