"""Augmentation of position, shape and drawing style, a batch at a time.

The random numbers are an argument, one row per image, so that ``SampleRng`` can key them by (seed, epoch, sample): an
image is augmented identically in an epoch, in every batch and by every process.

The model must generalise over drawing styles: an unseen icon set has other colours, other outlines, or only outlines.
So some images get their colour channels mixed or become grey, some get an outline where colours change, and some lose
their fill and keep only the outline.

Shape suffixes: B images, C channels, H and W stored pixels, S side of the model's input, K random numbers per image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

LUMINANCE = (0.299, 0.587, 0.114)
UNIFORMS = 35  # random numbers per image


class UniformColumns:
    """Takes the columns of a matrix of random numbers one after the other.

    Args:
        uniform_BK: in [0, 1).
    """

    def __init__(self, uniform_BK: NDArray[np.float64]) -> None:
        self._uniform_BK = torch.from_numpy(uniform_BK)
        self._used = 0

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), ``(B, *shape)``."""
        return self._next(shape).float()

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers, ``(B, *shape)``."""
        normal: Tensor = torch.special.ndtri(self._next(shape).clamp(1e-12, 1 - 1e-12))
        return normal.float()

    def symmetric(self, width: float, *shape: int) -> Tensor:
        """Numbers in ``-width..width``, ``(B, *shape)``."""
        return (self.uniform(*shape) * 2 - 1) * width

    def _next(self, shape: tuple[int, ...]) -> Tensor:
        start, self._used = self._used, self._used + math.prod(shape)
        return self._uniform_BK[:, start : self._used].reshape(-1, *shape)


def augment(pixels_BHWC: Tensor, side: int, style: float, uniform_BK: NDArray[np.float64]) -> Tensor:
    """Augmented images ``(B, C, S, S)`` in -1..1, a pure function of the arguments.

    Args:
        pixels_BHWC: uint8.
        side: S.
        style: strength of the style changes, 0..1; geometry and small colour changes are always on.
        uniform_BK: ``UNIFORMS`` random numbers in [0, 1) per image, from ``SampleRng.uniforms``.
    """
    random = UniformColumns(uniform_BK)
    # White becomes 0, so that padding with zeros and mixing channels leave the background white.
    ink_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float().div_(255).sub_(1)
    ink_BCSS = F.grid_sample(ink_BCHW, _grid(len(pixels_BHWC), side, random), align_corners=False)
    y_BCSS = _mix_colours(ink_BCSS, style, random)
    if style > 0:
        y_BCSS = _draw_outlines(y_BCSS, ink_BCSS, style, random)
    return _light(y_BCSS, random).mul_(2).add_(1).contiguous(memory_format=torch.channels_last)


def _grid(size: int, side: int, random: UniformColumns) -> Tensor:
    """Sampling grids ``(B, S, S, 2)``: rotation, zoom, stretch, translation, and for some images reflection."""
    angle, zoom, stretch = random.symmetric(0.36), random.symmetric(0.26).exp(), random.symmetric(0.15).exp()
    shift_x, shift_y = random.symmetric(0.12), random.symmetric(0.12)
    mirror = torch.where(random.uniform() < 0.3, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    first = torch.stack([cos * mirror * stretch, -sin, shift_x], dim=1)
    second = torch.stack([sin * mirror * stretch, cos, shift_y], dim=1)
    return F.affine_grid(torch.stack([first, second], dim=1), [size, 3, side, side], align_corners=False)


def _mix_colours(ink_BCSS: Tensor, style: float, random: UniformColumns) -> Tensor:
    """A small colour change; for a share ``style / 2`` of the images grey or random channel mixing instead."""
    same = torch.eye(3)
    light = same + random.symmetric(0.1, 3, 3)
    grey = torch.tensor(LUMINANCE).expand(len(ink_BCSS), 3, 3)
    mixed = same * 0.5 + random.normal(3, 3) * 0.6
    mixed = mixed / (mixed.sum(dim=2, keepdim=True).abs() + 0.6)
    mixed = torch.lerp(same, mixed, random.uniform(1, 1))
    kind = random.uniform(1, 1)
    matrix = torch.where(kind < style * 0.5, torch.where(kind < style * 0.2, grey, mixed), light)
    return torch.bmm(matrix, ink_BCSS.flatten(2)).view_as(ink_BCSS).clamp_(-1, 0)


def _draw_outlines(y_BCSS: Tensor, ink_BCSS: Tensor, style: float, random: UniformColumns) -> Tensor:
    """Dark outlines where colours change, for a share ``style / 2``; a third of them lose most of their fill."""
    edge_B1SS = (F.max_pool2d(ink_BCSS, 3, 1, 1) + F.max_pool2d(-ink_BCSS, 3, 1, 1)).amax(dim=1, keepdim=True)
    threshold = 0.1 + 0.4 * random.uniform(1, 1, 1)
    edge_B1SS = ((edge_B1SS - threshold) * 4).clamp_(0, 1)
    thin = random.uniform(1, 1, 1) < 0.5
    edge_B1SS = torch.where(thin, edge_B1SS.square(), edge_B1SS)
    kind = random.uniform(1, 1, 1)
    fill = torch.where(kind < style / 6, 0.4 * random.uniform(1, 1, 1), 1.0)
    pen = random.uniform(3, 1, 1) * 0.25 - 1
    return torch.lerp(y_BCSS * fill, pen.expand_as(y_BCSS), edge_B1SS * (kind < style / 2) * 0.95)


def _light(y_BCSS: Tensor, random: UniformColumns) -> Tensor:
    """Contrast and brightness."""
    contrast = 1 + random.symmetric(0.2, 1, 1, 1)
    return (y_BCSS + 0.5).mul_(contrast).sub_(0.5).add_(random.symmetric(0.07, 1, 1, 1))
