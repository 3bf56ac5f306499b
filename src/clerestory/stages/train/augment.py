"""Pictures varied in place, shape and drawing style, a whole batch at a time.

The random numbers come from outside, a row for each picture, so that ``Keyed`` can tie them to (seed, epoch, sample):
the same picture in the same epoch looks the same in every batch and whoever prepares it.

The drawing styles are what the model must see through: a set of icons it has never seen has other colours, other
outlines, or nothing but outlines. So some pictures get their colour channels mixed or greyed, some get an outline
drawn where colours change, and some lose their fill and keep the outline only.

Shape suffixes: B pictures, C channels, H and W pixels of the store, S side of the model's picture, K random numbers of
a picture.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

LUMINANCE = (0.299, 0.587, 0.114)
CHANCES = 35


class Chances:
    """Hands out the columns of a table of random numbers one after the other.

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

    def around(self, width: float, *shape: int) -> Tensor:
        """Numbers in ``-width..width``, ``(B, *shape)``."""
        return (self.uniform(*shape) * 2 - 1) * width

    def _next(self, shape: tuple[int, ...]) -> Tensor:
        start, self._used = self._used, self._used + math.prod(shape)
        return self._uniform_BK[:, start : self._used].reshape(-1, *shape)


def augment(pixels_BHWC: Tensor, side: int, style: float, uniform_BK: NDArray[np.float64]) -> Tensor:
    """Varied pictures ``(B, C, S, S)`` in -1..1, a pure function of its arguments.

    Args:
        pixels_BHWC: uint8.
        side: S.
        style: strength of the style changes, 0..1; geometry and light colour changes are always on.
        uniform_BK: ``CHANCES`` random numbers in [0, 1) for each picture, as ``Keyed.uniforms`` gives them.
    """
    random = Chances(uniform_BK)
    # White becomes 0, so that padding with zeros and mixing channels leave the background white.
    ink_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float().div_(255).sub_(1)
    ink_BCSS = F.grid_sample(ink_BCHW, _grid(len(pixels_BHWC), side, random), align_corners=False)
    y_BCSS = _mix_colours(ink_BCSS, style, random)
    if style > 0:
        y_BCSS = _draw_outlines(y_BCSS, ink_BCSS, style, random)
    return _light(y_BCSS, random).mul_(2).add_(1).contiguous(memory_format=torch.channels_last)


def _grid(size: int, side: int, random: Chances) -> Tensor:
    """Sampling grids ``(B, S, S, 2)``: turn, zoom, stretch, shift, sometimes mirror."""
    angle, zoom, stretch = random.around(0.36), random.around(0.26).exp(), random.around(0.15).exp()
    shift_x, shift_y = random.around(0.12), random.around(0.12)
    mirror = torch.where(random.uniform() < 0.3, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    first = torch.stack([cos * mirror * stretch, -sin, shift_x], dim=1)
    second = torch.stack([sin * mirror * stretch, cos, shift_y], dim=1)
    return F.affine_grid(torch.stack([first, second], dim=1), [size, 3, side, side], align_corners=False)


def _mix_colours(ink_BCSS: Tensor, style: float, random: Chances) -> Tensor:
    """A small colour change for all; for a share ``style / 2`` of the pictures grey or random channel mixing."""
    same = torch.eye(3)
    light = same + random.around(0.1, 3, 3)
    grey = torch.tensor(LUMINANCE).expand(len(ink_BCSS), 3, 3)
    mixed = same * 0.5 + random.normal(3, 3) * 0.6
    mixed = mixed / (mixed.sum(dim=2, keepdim=True).abs() + 0.6)
    mixed = torch.lerp(same, mixed, random.uniform(1, 1))
    kind = random.uniform(1, 1)
    matrix = torch.where(kind < style * 0.5, torch.where(kind < style * 0.2, grey, mixed), light)
    return torch.bmm(matrix, ink_BCSS.flatten(2)).view_as(ink_BCSS).clamp_(-1, 0)


def _draw_outlines(y_BCSS: Tensor, ink_BCSS: Tensor, style: float, random: Chances) -> Tensor:
    """Dark outlines where colours change, for a share ``style / 2``; a third of these lose most of their fill."""
    edge_B1SS = (F.max_pool2d(ink_BCSS, 3, 1, 1) + F.max_pool2d(-ink_BCSS, 3, 1, 1)).amax(dim=1, keepdim=True)
    threshold = 0.1 + 0.4 * random.uniform(1, 1, 1)
    edge_B1SS = ((edge_B1SS - threshold) * 4).clamp_(0, 1)
    thin = random.uniform(1, 1, 1) < 0.5
    edge_B1SS = torch.where(thin, edge_B1SS.square(), edge_B1SS)
    kind = random.uniform(1, 1, 1)
    fill = torch.where(kind < style / 6, 0.4 * random.uniform(1, 1, 1), 1.0)
    pen = random.uniform(3, 1, 1) * 0.25 - 1
    return torch.lerp(y_BCSS * fill, pen.expand_as(y_BCSS), edge_B1SS * (kind < style / 2) * 0.95)


def _light(y_BCSS: Tensor, random: Chances) -> Tensor:
    """Contrast and brightness."""
    contrast = 1 + random.around(0.2, 1, 1, 1)
    return (y_BCSS + 0.5).mul_(contrast).sub_(0.5).add_(random.around(0.07, 1, 1, 1))
