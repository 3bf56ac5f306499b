"""Exponential moving averages of tensors that are being trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def ema_update(average: Iterable[Tensor], values: Iterable[Tensor], decay: float) -> None:
    """``average = decay · average + (1 - decay) · value``, in place; tensors that are not floating point are copied."""
    for average_tensor, value in zip(average, values, strict=True):
        if average_tensor.is_floating_point():
            average_tensor.lerp_(value, 1 - decay)
        else:
            average_tensor.copy_(value)


def ema_warmup(decay: float, step: int) -> float:
    """The decay at a step: low at first, so that the random initial weights are soon forgotten."""
    return min(decay, (1 + step) / (10 + step))
