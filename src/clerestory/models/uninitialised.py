"""Layers of networks that are only ever loaded: their weights are not initialised, which takes time for nothing."""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    """``nn.Linear`` whose weights are to be loaded."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` whose weights are to be loaded."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Embedding(nn.Embedding):
    """``nn.Embedding`` whose weights are to be loaded."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` whose weights are to be loaded."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""
