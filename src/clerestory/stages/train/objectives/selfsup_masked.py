"""Masked image modelling: some cells of an image are masked and predicted from the visible ones.

Cells of *pixels* are masked before the first layer. Masking tokens after the convolutional stem would not hide them:
its receptive fields overlap, so the neighbours of a masked token contain its pixels. The decoder is one linear layer
from each token to the pixels under it, and the loss is that of masked cells only, with pixels normalised within their
cell (He et al. 2021, arXiv:2111.06377; Xie et al. 2021, arXiv:2111.09886).

Shape suffixes: B images, C channels, S side in pixels, G cells along a side, N cells (G·G), T tokens, D width,
Q values of one cell.
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

VARIANCE_EPS = 1e-3  # keeps cells of a single colour from being scaled up to noise


def random_mask(size: int, cells: int, ratio: float, generator: torch.Generator) -> Tensor:
    """The masked cells as booleans, ``(B, N)``: exactly ``round(ratio · N)`` in every image, uniformly drawn.

    Args:
        size: B.
        cells: N.
        ratio: of the cells; at least one cell is masked and at least one stays visible.
        generator: of the draws.
    """
    masked = min(cells - 1, max(1, round(ratio * cells)))
    place_BN = torch.rand(size, cells, generator=generator).argsort(dim=1)
    return place_BN < masked


def apply_mask(pixels_BCSS: Tensor, mask_BN: Tensor, mask_C: Tensor) -> Tensor:
    """The images with every masked cell in one colour, ``mask_C``."""
    cells = round(mask_BN.shape[1] ** 0.5)
    factor = pixels_BCSS.shape[-1] // cells
    mask_BGG = mask_BN.view(-1, cells, cells)
    mask_B1SS = mask_BGG.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[:, None]
    return torch.where(mask_B1SS, mask_C[:, None, None], pixels_BCSS)


def patchify(pixels_BCSS: Tensor, cells: int) -> Tensor:
    """Images divided into ``cells`` × ``cells`` squares: ``(B, N, Q)``, row by row."""
    batch, channels, side, _ = pixels_BCSS.shape
    factor = side // cells
    grid = pixels_BCSS.reshape(batch, channels, cells, factor, cells, factor)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, cells * cells, channels * factor * factor)


def normalise_cells(cells_BNQ: Tensor) -> Tensor:
    """Each cell with mean 0 and variance 1; a cell of a single colour becomes 0."""
    mean = cells_BNQ.mean(dim=-1, keepdim=True)
    variance = cells_BNQ.var(dim=-1, keepdim=True, unbiased=False)
    return (cells_BNQ - mean) / (variance + VARIANCE_EPS).sqrt()


class PixelDecoder(nn.Module):
    """The colour of masked cells, and a linear layer from tokens to pixels.

    Args:
        config: of the image tower.
        per_token: cells along the side of one token's square.

    Raises:
        ConfigError: the image size is not a multiple of the cells per side.
    """

    def __init__(self, config: ClerestoryConfig, per_token: int = 4) -> None:
        super().__init__()
        self.grid, self.cells = config.grid, config.grid * per_token
        if config.image_size % self.cells:
            raise ConfigError(
                f"images of {config.image_size} pixels cannot be divided into {self.cells} cells per side",
                "choose an image_size that is a multiple of 4 times its grid of tokens",
            )
        self.mask_C = nn.Parameter(torch.zeros(3))
        self.to_pixels = nn.Linear(config.width, 3 * (config.image_size // config.grid) ** 2)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens to the pixels of each cell, ``(B, N, Q)``."""
        blocks_BTQ = self.to_pixels(tokens_BTD)
        batch, _, values = blocks_BTQ.shape
        factor = round((values / 3) ** 0.5)
        blocks = blocks_BTQ.view(batch, self.grid, self.grid, 3, factor, factor)
        side = self.grid * factor
        pixels_BCSS = blocks.permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, side, side)
        return patchify(pixels_BCSS, self.cells)


def masked_loss(predicted_BNQ: Tensor, pixels_BCSS: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean squared error of the normalised pixels of the masked cells."""
    target_BNQ = normalise_cells(patchify(pixels_BCSS, round(mask_BN.shape[1] ** 0.5)))
    return F.mse_loss(predicted_BNQ[mask_BN], target_BNQ[mask_BN])


@contextmanager
def frozen_batch_norm_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, batch norm uses the statistics of the batch, as in training, but does not update the running ones.

    Masked images and crops are not the model's input at inference.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    saved = [(m.running_mean, m.running_var, m.num_batches_tracked) for m in norms]
    for norm in norms:
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (mean, variance, count) in zip(norms, saved, strict=True):
            norm.running_mean, norm.running_var, norm.num_batches_tracked = mean, variance, count
