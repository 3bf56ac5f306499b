"""Images to tokens: a convolutional stem, then Transformer blocks.

A plain patch embedding learns almost nothing from a few thousand images in a few minutes; strided convolutions with
residual blocks add the inductive bias (locality) that it lacks.

Shape suffixes: B images, C channels, H and W pixels, T tokens, D width, S heads, Q width of a head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.models.config import ClerestoryConfig
from clerestory.models.moe import IMAGE, Mlp
from clerestory.models.moe_factory import make_mixture


class ConvBlock(nn.Module):
    """A stride-2 convolution that halves the resolution, with batch norm."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H/2, W/2)``."""
        return F.relu(self.norm(self.conv(x_BCHW)), inplace=True)


class ResidualBlock(nn.Module):
    """Two convolutions with a skip connection; initialised as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        y_BCHW = F.relu(self.norm1(self.conv1(x_BCHW)), inplace=True)
        return F.relu(x_BCHW + self.norm2(self.conv2(y_BCHW)), inplace=True)


class SelfAttention(nn.Module):
    """Self-attention over the tokens of one image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """``(B, T, D)`` to the same shape."""
        batch, tokens, width = x_BTD.shape
        qkv = self.qkv(x_BTD).view(batch, tokens, 3, self.heads, width // self.heads)
        q_BSTQ, k_BSTQ, v_BSTQ = qkv.permute(2, 0, 3, 1, 4)
        y_BSTQ = F.scaled_dot_product_attention(q_BSTQ, k_BSTQ, v_BSTQ)
        return cast(Tensor, self.out(y_BSTQ.transpose(1, 2).reshape(batch, tokens, width)))


class EncoderBlock(nn.Module):
    """A pre-norm Transformer block whose MLP is dense or a mixture of experts."""

    def __init__(self, config: ClerestoryConfig) -> None:
        super().__init__()
        hidden = config.width * config.mlp_ratio
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp: nn.Module
        if config.experts:
            self.mlp = make_mixture(config, config.width, hidden, config.experts, IMAGE)
        else:
            self.mlp = Mlp(config.width, hidden, bias=True)

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor | None]:
        """``(B, T, D)`` to the same shape, and the load-balance loss of a mixture (None for a dense MLP)."""
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD))
        h_BTD = self.norm2(x_BTD)
        if isinstance(self.mlp, Mlp):
            return x_BTD + self.mlp(h_BTD), None
        y_BTD, balance = self.mlp(h_BTD)
        return x_BTD + y_BTD, balance


class ImageTower(nn.Module):
    """Convolutional stem, position embedding, Transformer blocks.

    Args:
        config: sizes; the stem has ``len(stem_channels)`` stride-2 convolutions.
    """

    def __init__(self, config: ClerestoryConfig) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        channels_in = 3
        for channels, residuals in zip(config.stem_channels, config.stem_residuals, strict=True):
            stem += [ConvBlock(channels_in, channels), *(ResidualBlock(channels) for _ in range(residuals))]
            channels_in = channels
        self.stem = nn.Sequential(*stem)
        self.to_tokens = nn.Linear(channels_in, config.width)
        self.position_TD = nn.Parameter(torch.empty(config.grid**2, config.width))
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens ``(B, T, D)`` and the mean load-balance loss of the blocks (None when they are dense)."""
        # CPU convolutions are fast in channels-last layout.
        maps_BCHW = self.stem(pixels_BCHW.contiguous(memory_format=torch.channels_last))
        x_BTD = self.to_tokens(maps_BCHW.flatten(2).transpose(1, 2)) + self.position_TD
        losses: list[Tensor] = []
        for block in self.blocks:
            x_BTD, balance = block(x_BTD)
            if balance is not None:
                losses.append(balance)
        return self.norm(x_BTD), torch.stack(losses).mean() if losses else None
