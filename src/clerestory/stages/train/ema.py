"""Averages that follow tensors which are being trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def follow(average: Iterable[Tensor], values: Iterable[Tensor], decay: float) -> None:
    """``average = decay · average + (1 - decay) · value``, tensor by tensor; what is no float is copied."""
    for mine, new in zip(average, values, strict=True):
        if mine.is_floating_point():
            mine.lerp_(new, 1 - decay)
        else:
            mine.copy_(new)


def early_decay(decay: float, step: int) -> float:
    """The decay to use at a step: little at first, so that the random start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))
