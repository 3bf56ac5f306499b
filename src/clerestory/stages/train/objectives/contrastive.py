"""The contrastive losses that a run can choose from, with their trainable scale and bias.

To add one, write its class here or beside its formula in ``losses``, and add its name to ``CONTRASTIVE_LOSSES`` and to
``TrainConfig.loss``.

Shape suffixes: B images, E shared space, N texts of the bank.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.distributed.ranks import Ranks
from clerestory.stages.train.losses import Ring, bank_softmax_loss, matryoshka, sigmoid_loss, softmax_loss
from clerestory.stages.train.monitor.statistics import chance_loss

MAX_SCALE = 100.0  # of CLIP: above it, a few hard pairs dominate the loss
INITIAL_SIGMOID_SCALE, INITIAL_SIGMOID_BIAS = 10.0, -10.0  # of SigLIP: nearly all pairs are negatives


class ContrastiveBatch(NamedTuple):
    """The arguments of a contrastive loss.

    Attributes:
        images_BE: unit rows.
        texts_BE: the text of each image, unit rows.
        bank_NE: training captions, unit rows.
        caption_B: the row of each image's caption in the bank.
        dims: the Matryoshka widths, the last one being E.
        ranks: the processes that share the batch; the mean over them is its loss.
    """

    images_BE: Tensor
    texts_BE: Tensor
    bank_NE: Tensor
    caption_B: Tensor
    dims: Sequence[int]
    ranks: Ranks


class ContrastiveLoss(nn.Module, ABC):
    """A contrastive loss of images and texts.

    Args:
        config: ``temperature`` and ``matryoshka_weight``.

    Attributes:
        uses_bank: whether the training captions of the bank are negatives, too.
    """

    uses_bank = False

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.matryoshka_weight = config.matryoshka_weight

    @abstractmethod
    def scale(self) -> float:
        """The present factor of the similarities, 1 / temperature."""

    @abstractmethod
    def chance_loss(self, batch_size: int, bank_size: int) -> float:
        """The loss of a model at chance level."""

    @abstractmethod
    def loss(self, batch: ContrastiveBatch) -> Tensor:
        """The loss at full width plus the weighted mean over the shorter widths."""

    def forward(self, batch: ContrastiveBatch) -> Tensor:
        """``loss`` in float32, whatever the precision of the embeddings."""
        with torch.autocast(batch.images_BE.device.type, enabled=False):
            return self.loss(batch._replace(images_BE=batch.images_BE.float()))


class BankSoftmax(ContrastiveLoss):
    """Softmax over the texts of the batch and the training captions, at a fixed temperature."""

    uses_bank = True

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self._scale = 1 / config.temperature

    def scale(self) -> float:
        """Fixed."""
        return self._scale

    def chance_loss(self, batch_size: int, bank_size: int) -> float:
        """About ``ln(B + N)`` and ``ln(B)``, averaged."""
        return chance_loss(batch_size, bank_size, self.matryoshka_weight)

    def loss(self, batch: ContrastiveBatch) -> Tensor:
        """With the bank as additional negatives."""
        return bank_softmax_loss(*batch[:5], 1 / self._scale, self.matryoshka_weight, batch.ranks)


class BatchContrastive(ContrastiveLoss):
    """The losses over the texts of the batch alone, with a trainable scale.

    Args:
        config: of the run.
        initial_scale: at the first step.
    """

    def __init__(self, config: TrainConfig, initial_scale: float) -> None:
        super().__init__(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))

    def scale(self) -> float:
        """As trained so far."""
        return float(self.scale_tensor().detach())

    def scale_tensor(self) -> Tensor:
        """The scale with its gradient, at most ``MAX_SCALE``."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def over_widths(self, loss: Callable[..., Tensor], batch: ContrastiveBatch, parameters: list[Tensor]) -> Tensor:
        """``loss`` at all widths; its texts travel around the ring of processes."""
        ring = Ring.over() if batch.ranks.world_size > 1 else Ring()
        shorter = len(batch.dims) - 1
        weights = [self.matryoshka_weight / max(1, shorter)] * shorter + [1.0]
        loss = partial(loss, caption_B=batch.caption_B, ring=ring)
        return matryoshka(loss, (batch.images_BE, batch.texts_BE), batch.dims, weights, parameters=parameters)


class SoftmaxContrastive(BatchContrastive):
    """The loss of CLIP."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config, min(1 / config.temperature, MAX_SCALE))

    def chance_loss(self, batch_size: int, bank_size: int) -> float:
        """``ln(B)``."""
        return chance_loss(batch_size, 0, self.matryoshka_weight)

    def loss(self, batch: ContrastiveBatch) -> Tensor:
        """Without the bank."""
        return self.over_widths(softmax_loss, batch, [self.scale_tensor()])


class SigmoidContrastive(BatchContrastive):
    """The loss of SigLIP, with a trainable bias."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config, INITIAL_SIGMOID_SCALE)
        self.bias = nn.Parameter(torch.tensor(INITIAL_SIGMOID_BIAS))

    def chance_loss(self, batch_size: int, bank_size: int) -> float:
        """One positive among B pairs for each image: B times the entropy of a probability of 1 / B."""
        entropy = math.log(batch_size)
        if batch_size > 1:
            entropy += (batch_size - 1) * math.log(batch_size / (batch_size - 1))
        return entropy * (1 + self.matryoshka_weight)

    def loss(self, batch: ContrastiveBatch) -> Tensor:
        """Without the bank."""
        return self.over_widths(sigmoid_loss, batch, [self.scale_tensor(), self.bias])


CONTRASTIVE_LOSSES: dict[str, Callable[[TrainConfig], ContrastiveLoss]] = {
    "bank_softmax": BankSoftmax,
    "softmax": SoftmaxContrastive,
    "sigmoid": SigmoidContrastive,
}


def make_contrastive_loss(config: TrainConfig) -> ContrastiveLoss:
    """The contrastive loss named by ``config.loss``."""
    return CONTRASTIVE_LOSSES[config.loss](config)
