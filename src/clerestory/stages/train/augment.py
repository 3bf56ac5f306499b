"""Pictures varied in place, shape and drawing style, a whole batch at a time.

The drawing styles are what the model must see through: a set of icons it has never seen has other colours, other
outlines, or nothing but outlines. So some pictures get their colour channels mixed or greyed, some get an outline
drawn where colours change, and some lose their fill and keep the outline only.

Shape suffixes: B pictures, C channels, H and W pixels of the store, S side of the model's picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LUMINANCE = (0.299, 0.587, 0.114)


def augment(pixels_BHWC: Tensor, side: int, style: float, seed: int) -> Tensor:
    """Varied pictures ``(B, C, S, S)`` in -1..1, a pure function of its arguments.

    Args:
        pixels_BHWC: uint8.
        side: S.
        style: strength of the style changes, 0..1; geometry and light colour changes are always on.
        seed: of the random numbers.
    """
    random = torch.Generator().manual_seed(seed)
    # White becomes 0, so that padding with zeros and mixing channels leave the background white.
    ink_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float().div_(255).sub_(1)
    ink_BCSS = F.grid_sample(ink_BCHW, _grid(len(pixels_BHWC), side, random), align_corners=False)
    y_BCSS = _mix_colours(ink_BCSS, style, random)
    if style > 0:
        y_BCSS = _draw_outlines(y_BCSS, ink_BCSS, style, random)
    return _light(y_BCSS, random).mul_(2).add_(1).contiguous(memory_format=torch.channels_last)


def _around(size: int, width: float, random: torch.Generator) -> Tensor:
    """Uniform in ``-width..width``, ``(size,)``."""
    return (torch.rand(size, generator=random) * 2 - 1) * width


def _grid(size: int, side: int, random: torch.Generator) -> Tensor:
    """Sampling grids ``(B, S, S, 2)``: turn, zoom, stretch, shift, sometimes mirror."""
    angle, zoom = _around(size, 0.36, random), torch.exp(_around(size, 0.26, random))
    stretch, shift_x, shift_y = (
        torch.exp(_around(size, 0.15, random)),
        _around(size, 0.12, random),
        _around(size, 0.12, random),
    )
    mirror = torch.where(torch.rand(size, generator=random) < 0.3, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    first = torch.stack([cos * mirror * stretch, -sin, shift_x], dim=1)
    second = torch.stack([sin * mirror * stretch, cos, shift_y], dim=1)
    return F.affine_grid(torch.stack([first, second], dim=1), [size, 3, side, side], align_corners=False)


def _mix_colours(ink_BCSS: Tensor, style: float, random: torch.Generator) -> Tensor:
    """A small colour change for all; for a share ``style / 2`` of the pictures grey or random channel mixing."""
    size = len(ink_BCSS)
    same = torch.eye(3)
    light = same + (torch.rand(size, 3, 3, generator=random) - 0.5) * 0.2
    grey = torch.tensor(LUMINANCE).expand(size, 3, 3)
    mixed = same * 0.5 + torch.randn(size, 3, 3, generator=random) * 0.6
    mixed = mixed / (mixed.sum(dim=2, keepdim=True).abs() + 0.6)
    mixed = torch.lerp(same.expand(size, 3, 3), mixed, torch.rand(size, 1, 1, generator=random))
    kind = torch.rand(size, generator=random)[:, None, None]
    matrix = torch.where(kind < style * 0.5, torch.where(kind < style * 0.2, grey, mixed), light)
    return torch.bmm(matrix, ink_BCSS.flatten(2)).view_as(ink_BCSS).clamp_(-1, 0)


def _draw_outlines(y_BCSS: Tensor, ink_BCSS: Tensor, style: float, random: torch.Generator) -> Tensor:
    """Dark outlines where colours change, for a share ``style / 2``; a third of these lose most of their fill."""
    size = len(ink_BCSS)
    edge_B1SS = (F.max_pool2d(ink_BCSS, 3, 1, 1) + F.max_pool2d(-ink_BCSS, 3, 1, 1)).amax(dim=1, keepdim=True)
    threshold = 0.1 + 0.4 * torch.rand(size, 1, 1, 1, generator=random)
    edge_B1SS = ((edge_B1SS - threshold) * 4).clamp_(0, 1)
    thin = torch.rand(size, 1, 1, 1, generator=random) < 0.5
    edge_B1SS = torch.where(thin, edge_B1SS.square(), edge_B1SS)
    kind = torch.rand(size, 1, 1, 1, generator=random)
    fill = torch.where(kind < style / 6, 0.4 * torch.rand(size, 1, 1, 1, generator=random), 1.0)
    pen = torch.rand(size, 3, 1, 1, generator=random) * 0.25 - 1
    return torch.lerp(y_BCSS * fill, pen.expand_as(y_BCSS), edge_B1SS * (kind < style / 2) * 0.95)


def _light(y_BCSS: Tensor, random: torch.Generator) -> Tensor:
    """Contrast and brightness."""
    size = len(y_BCSS)
    contrast = 1 + _around(size, 0.2, random)[:, None, None, None]
    return (y_BCSS + 0.5).mul_(contrast).sub_(0.5).add_(_around(size, 0.07, random)[:, None, None, None])
