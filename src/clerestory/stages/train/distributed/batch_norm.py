"""Batch norm over the images of all ranks, so that two ranks with half a batch each equal one rank with all of it.

torch's ``SyncBatchNorm`` runs on GPUs only. This one uses ordinary operations and one exchange of mean and variance,
with gradients, so it also runs on a CPU; a test compares it with batch norm of the whole batch.

Shape suffixes: B images, C channels, W ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clerestory.stages.train.distributed.ranks import Ranks


class CrossRankBatchNorm(_BatchNorm):
    """Batch norm of any dimension whose statistics in training are those of all ranks' images.

    Every rank must have the same number of images. In evaluation it is plain batch norm.
    """

    ranks: Ranks

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, …)`` to the same shape."""
        if not self.training:
            return super().forward(x)
        reduced = [d for d in range(x.ndim) if d != 1]
        local_2C = torch.stack([x.mean(reduced), x.var(reduced, unbiased=False)])
        mean_WC, var_WC = self.ranks.gather(local_2C[None]).unbind(1)
        mean_C = mean_WC.mean(0)
        var_C = var_WC.mean(0) + (mean_WC - mean_C).square().mean(0)
        self._update_running(mean_C.detach(), var_C.detach(), self.ranks.world_size * x.numel() // x.shape[1])
        shape = [1, -1, *(1 for _ in reduced[1:])]
        scale_C = (var_C + self.eps).rsqrt() * self.weight
        return x * scale_C.view(shape) + (self.bias - mean_C * scale_C).view(shape)

    @torch.no_grad()
    def _update_running(self, mean_C: Tensor, var_C: Tensor, count: int) -> None:
        """Update the running statistics as torch does, with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, step)
        self.running_var.lerp_(var_C * (count / max(1, count - 1)), step)

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def convert_batch_norms(module: nn.Module, ranks: Ranks) -> None:
    """Replace every batch norm of a module by one over all ranks, in place; names and tensors do not change."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.__class__ = CrossRankBatchNorm  # type: ignore[assignment]  # same tensors, different forward
            norm.ranks = ranks  # type: ignore[assignment]  # modules take any attribute
