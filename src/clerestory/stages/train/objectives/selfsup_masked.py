"""Masked image modelling: parts of a picture are hidden, and what they showed is predicted from the rest.

Cells of *pixels* are hidden before the first layer. Hiding tokens after the convolutional stem would hide nothing: its
receptive fields overlap, so the neighbours of a hidden token would tell what it showed. The decoder is one linear layer
from each token to the pixels under it, and the loss is taken on hidden cells alone, of pixels normalised within their
cell (He et al. 2021, arXiv:2111.06377; Xie et al. 2021, arXiv:2111.09886).

Shape suffixes: B pictures, C channels, S side in pixels, G cells along a side, N cells (G·G), T tokens, D width,
Q numbers of one cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from clerestory.core.errors import ConfigError
from clerestory.models.config import ClerestoryConfig

FLAT = 1e-3  # variance of a cell below which it is one colour; a blank page would be blown up to noise otherwise


def hidden_cells(size: int, cells: int, share: float, random: torch.Generator) -> Tensor:
    """Which cells are hidden, ``(B, N)``: in every picture exactly ``round(share · N)``, evenly drawn.

    Args:
        size: B.
        cells: N.
        share: of the cells; at least one stays visible and at least one is hidden.
        random: of the draws.
    """
    hide = min(cells - 1, max(1, round(share * cells)))
    place_BN = torch.rand(size, cells, generator=random).argsort(dim=1)
    return place_BN < hide


def cover(pixels_BCSS: Tensor, hidden_BN: Tensor, cover_C: Tensor) -> Tensor:
    """The pictures with every hidden cell in one colour."""
    cells = round(hidden_BN.shape[1] ** 0.5)
    factor = pixels_BCSS.shape[-1] // cells
    mask_BGG = hidden_BN.view(-1, cells, cells)
    mask_B1SS = mask_BGG.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[:, None]
    return torch.where(mask_B1SS, cover_C[:, None, None], pixels_BCSS)


def cells_of(pixels_BCSS: Tensor, cells: int) -> Tensor:
    """Pictures cut into ``cells`` × ``cells`` squares: ``(B, N, Q)``, row by row."""
    batch, channels, side, _ = pixels_BCSS.shape
    factor = side // cells
    cut = pixels_BCSS.reshape(batch, channels, cells, factor, cells, factor)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, cells * cells, channels * factor * factor)


def normalised(cells_BNQ: Tensor) -> Tensor:
    """Each cell with mean 0 and variance 1; a cell of one colour becomes 0."""
    mean = cells_BNQ.mean(dim=-1, keepdim=True)
    variance = cells_BNQ.var(dim=-1, keepdim=True, unbiased=False)
    return (cells_BNQ - mean) / (variance + FLAT).sqrt()


class PixelDecoder(nn.Module):
    """The colour of what is hidden, and a light way from tokens back to pixels.

    Args:
        config: of the image tower.
        per_token: cells along the side of one token's square.

    Raises:
        ConfigError: a token's pixels cannot be cut that finely.
    """

    def __init__(self, config: ClerestoryConfig, per_token: int = 4) -> None:
        super().__init__()
        self.grid, self.cells = config.grid, config.grid * per_token
        if config.image_size % self.cells:
            raise ConfigError(
                f"pictures of {config.image_size} pixels cannot be cut into {self.cells} cells a side",
                "choose an image_size that is a multiple of 4 times its grid of tokens",
            )
        self.cover_C = nn.Parameter(torch.zeros(3))
        self.to_pixels = nn.Linear(config.width, 3 * (config.image_size // config.grid) ** 2)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens to what each cell shows, ``(B, N, Q)``."""
        blocks_BTQ = self.to_pixels(tokens_BTD)
        batch, _, numbers = blocks_BTQ.shape
        factor = round((numbers / 3) ** 0.5)
        blocks = blocks_BTQ.view(batch, self.grid, self.grid, 3, factor, factor)
        side = self.grid * factor
        pixels_BCSS = blocks.permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, side, side)
        return cells_of(pixels_BCSS, self.cells)


def masked_loss(predicted_BNQ: Tensor, pixels_BCSS: Tensor, hidden_BN: Tensor) -> Tensor:
    """Mean squared error of the normalised pixels, of hidden cells alone."""
    wanted_BNQ = normalised(cells_of(pixels_BCSS, round(hidden_BN.shape[1] ** 0.5)))
    return F.mse_loss(predicted_BNQ[hidden_BN], wanted_BNQ[hidden_BN])


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norm uses the batch's statistics inside, as in training, but its running ones stay as they are.

    Pictures with holes are not what the model is asked about later.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    kept = [(m.running_mean, m.running_var, m.num_batches_tracked) for m in norms]
    for norm in norms:
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (mean, variance, count) in zip(norms, kept, strict=True):
            norm.running_mean, norm.running_var, norm.num_batches_tracked = mean, variance, count
