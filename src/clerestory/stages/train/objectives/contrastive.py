"""How similar pictures and their texts are to be: the contrastive losses that a run can choose from.

Shape suffixes: B pictures, E shared space, N texts of the bank.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.distributed.ranks import Ranks
from clerestory.stages.train.losses import Ring, contrastive, matryoshka, sigmoid_loss, softmax_loss
from clerestory.stages.train.monitor.statistics import chance_loss

STEEPEST = 100.0  # CLIP's limit: steeper, a few hard pairs decide everything
UNLIKELY = -10.0  # SigLIP's first bias: nearly all pairs do not belong together


class Matching(nn.Module):
    """A contrastive loss, with the scale and bias it learns.

    ``softmax_bank`` has a fixed temperature and tells a picture's text from the training captions' as well;
    ``softmax`` (CLIP) and ``sigmoid`` (SigLIP) learn theirs and know the batch alone.

    Args:
        config: ``loss``, ``temperature`` and ``nested_weight``.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.kind, self.nested, self._fixed = config.loss, config.nested_weight, 1 / config.temperature
        if self.kind != "softmax_bank":
            first = 10.0 if self.kind == "sigmoid" else min(self._fixed, STEEPEST)
            self.log_scale = nn.Parameter(torch.tensor(math.log(first)))
        if self.kind == "sigmoid":
            self.bias = nn.Parameter(torch.tensor(UNLIKELY))

    def scale(self) -> float:
        """What similarities are multiplied by now: 1 / temperature."""
        return self._fixed if self.kind == "softmax_bank" else float(self._scale().detach())

    def guess(self, batch: int, bank: int) -> float:
        """The loss of a model that knows nothing."""
        if self.kind == "softmax_bank":
            return chance_loss(batch, bank, self.nested)
        if self.kind == "softmax":
            return chance_loss(batch, 0, self.nested)
        # One right among B for each picture: B times the entropy of a chance of 1 / B.
        rest = (batch - 1) * math.log(batch / (batch - 1)) if batch > 1 else 0.0
        return (math.log(batch) + rest) * (1 + self.nested)

    def forward(
        self, images_BE: Tensor, texts_BE: Tensor, bank_NE: Tensor, own_B: Tensor, dims: list[int], ranks: Ranks
    ) -> Tensor:
        """The loss at full width and, weighted, over the nested widths, in float32 whatever the embeddings are.

        Args:
            images_BE: unit rows.
            texts_BE: each picture's own text, unit rows.
            bank_NE: training captions.
            own_B: each picture's caption, as a row of the bank.
            dims: the nested widths, the last one being E.
            ranks: the processes that share the batch; the mean over them is its loss.
        """
        with torch.autocast(images_BE.device.type, enabled=False):
            images_BE = images_BE.float()
            if self.kind == "softmax_bank":
                return contrastive(images_BE, texts_BE, bank_NE, own_B, dims, 1 / self._fixed, self.nested, ranks)
            ring = Ring.over() if ranks.world > 1 else Ring()
            weights = [self.nested / max(1, len(dims) - 1)] * (len(dims) - 1) + [1.0]
            if self.kind == "softmax":
                loss, learnt = partial(softmax_loss, own_B=own_B, ring=ring), [self._scale()]
            else:
                loss, learnt = partial(sigmoid_loss, own_B=own_B, ring=ring), [self._scale(), self.bias]
            return matryoshka(loss, (images_BE, texts_BE), dims, weights, parameters=learnt)

    def _scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=STEEPEST)
