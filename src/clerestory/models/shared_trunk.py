"""Pictures and texts through one Transformer with experts (LIMoE), or through two towers of the same make.

Each modality attends within itself; the experts see the tokens of both at once, so that load, counts and losses are
those of the whole batch. Picture and text of a pair are one sample: row ``b`` of the tokens is the picture's followed
by the text's.

Shape suffixes: B pairs, C channels, H and W pixels, L text positions, T tokens of a pair (pictures first), D width,
S heads, Q width of a head, P width of the shared space.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves a few of the functions called here without types.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.errors import ConfigError, DataError
from clerestory.models.image_tower import ConvBlock
from clerestory.models.moe import IMAGE, TEXT, LossWeights, MixtureOfExperts, Mlp
from clerestory.models.moe.experts import Kind
from clerestory.models.moe.routing import Gate

LIMOE = LossWeights(switch=1.0, z=0.1, local=1.0, spread=1.0, least=2.0)


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of the trunk.

    Attributes:
        shared: one trunk for both modalities; otherwise each has blocks of its own.
        image_size: side of the square picture in pixels.
        stem_channels: channels after each stride-2 convolution.
        vocab_size: word pieces; ``pad_token_id`` is padding.
        max_tokens: longest text.
        width, layers, heads, mlp_ratio: of the Transformer blocks.
        embed_dim: P.
        experts: E; 0 means dense.
        experts_per_token: K.
        every: each so manieth block has experts, counted from the end, the others are dense.
        kind, gate, shared_experts: of the mixtures.
        steered: whether a bias balances the load.
        losses: weights of the router's losses.
    """

    shared: bool = True
    image_size: int = 32
    stem_channels: tuple[int, ...] = (32, 64, 128)
    vocab_size: int = 1000
    pad_token_id: int = 0
    max_tokens: int = 16
    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_ratio: int = 4
    embed_dim: int = 128
    experts: int = 8
    experts_per_token: int = 2
    every: int = 2
    kind: Kind = "swiglu"
    gate: Gate = "softmax"
    shared_experts: int = 0
    steered: bool = True
    losses: LossWeights = field(default=LIMOE)

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together, in words."""
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.image_size % 2 ** len(self.stem_channels):
            raise ConfigError(f"image_size {self.image_size} cannot be halved {len(self.stem_channels)} times")
        if self.every < 1:
            raise ConfigError("every must be at least 1")


@dataclass(frozen=True)
class TrunkOutput:
    """What a forward pass gives.

    Attributes:
        image_embeds: ``(B, P)`` unit rows, where pictures were given.
        text_embeds: ``(B, P)`` unit rows, where texts were given.
        image_tokens: ``(B, H·W, D)``.
        text_tokens: ``(B, L, D)``.
        balance_loss: mean of the routers' losses, None without experts.
    """

    image_embeds: Tensor | None
    text_embeds: Tensor | None
    image_tokens: Tensor | None
    text_tokens: Tensor | None
    balance_loss: Tensor | None


class SharedTrunk(nn.Module):
    """Both modalities into one space.

    Args:
        config: sizes; ``shared=False`` makes two towers.
    """

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        stem: list[nn.Module] = []
        before = 3
        for channels in config.stem_channels:
            stem.append(ConvBlock(before, channels))
            before = channels
        grid = config.image_size // 2 ** len(config.stem_channels)
        self.stem = nn.Sequential(*stem)
        self.to_tokens = nn.Linear(before, config.width)
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.image_position_TD = nn.Parameter(torch.randn(grid**2, config.width) * 0.02)
        self.text_position_LD = nn.Parameter(torch.randn(config.max_tokens, config.width) * 0.02)
        nn.init.normal_(self.words.weight, std=0.02)
        self.blocks = _blocks(config)
        self.text_blocks = None if config.shared else _blocks(config)
        self.image_norm, self.text_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.image_head = nn.Linear(config.width, config.embed_dim, bias=False)
        self.text_head = nn.Linear(config.width, config.embed_dim, bias=False)

    def forward(self, pixels_BCHW: Tensor | None = None, ids_BL: Tensor | None = None) -> TrunkOutput:
        """Embed pictures, texts or pairs of both.

        Args:
            pixels_BCHW: in -1..1.
            ids_BL: word pieces, padded.

        Raises:
            DataError: nothing was given, or a different number of pictures and texts.
        """
        if pixels_BCHW is None and ids_BL is None:
            raise DataError("neither pictures nor texts were given")
        if pixels_BCHW is not None and ids_BL is not None and len(pixels_BCHW) != len(ids_BL):
            raise DataError(
                f"{len(pixels_BCHW)} pictures and {len(ids_BL)} texts are not pairs", "give as many of both"
            )
        image = None if pixels_BCHW is None else self._image_tokens(pixels_BCHW)
        text = None if ids_BL is None else self._text_tokens(ids_BL)
        losses: list[Tensor] = []
        if self.text_blocks is None:
            image, text = _through(self.blocks, image, text, losses)
        else:
            image, _ = _through(self.blocks, image, None, losses)
            _, text = _through(self.text_blocks, None, text, losses)
        image_BTD = None if image is None else self.image_norm(image.x_BTD)
        text_BLD = None if text is None else self.text_norm(text.x_BTD)
        return TrunkOutput(
            None if image_BTD is None else F.normalize(self.image_head(image_BTD.mean(dim=1)), dim=-1),
            None
            if text_BLD is None
            else F.normalize(self.text_head(_mean(text_BLD, cast(_Stream, text).kept_BT)), dim=-1),
            image_BTD,
            text_BLD,
            torch.stack(losses).mean() if losses else None,
        )

    def _image_tokens(self, pixels_BCHW: Tensor) -> _Stream:
        maps_BCHW = self.stem(pixels_BCHW.contiguous(memory_format=torch.channels_last))
        x_BTD = self.to_tokens(maps_BCHW.flatten(2).transpose(1, 2)) + self.image_position_TD
        return _Stream(x_BTD, torch.ones(x_BTD.shape[:2], dtype=torch.bool, device=x_BTD.device), IMAGE)

    def _text_tokens(self, ids_BL: Tensor) -> _Stream:
        if ids_BL.shape[1] > self.config.max_tokens:
            raise DataError(f"a text of {ids_BL.shape[1]} pieces is longer than {self.config.max_tokens}", "cut it")
        x_BLD = self.words(ids_BL) + self.text_position_LD[: ids_BL.shape[1]]
        return _Stream(x_BLD, ids_BL != self.config.pad_token_id, TEXT)


@dataclass(frozen=True)
class _Stream:
    """Tokens of one modality, which of them are no padding, and the modality."""

    x_BTD: Tensor
    kept_BT: Tensor
    modality: int


class TrunkBlock(nn.Module):
    """A pre-norm Transformer block; its MLP may be a mixture that both modalities share.

    Args:
        config: sizes.
        mixed: whether it has experts.
    """

    def __init__(self, config: TrunkConfig, mixed: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv, self.out = nn.Linear(config.width, 3 * config.width), nn.Linear(config.width, config.width)
        hidden = config.width * config.mlp_ratio
        self.mlp: Mlp | MixtureOfExperts
        if mixed:
            self.mlp = MixtureOfExperts(
                config.width,
                hidden // config.experts_per_token,
                config.experts,
                config.experts_per_token,
                kind=config.kind,
                gate=config.gate,
                shared=config.shared_experts,
                steered=config.steered,
                losses=config.losses,
            )
        else:
            self.mlp = Mlp(config.width, hidden, config.kind)

    def attend(self, x_BTD: Tensor, kept_BT: Tensor) -> Tensor:
        """Self-attention within one modality ``(B, T, D)``; nobody attends to padding."""
        batch, tokens, width = x_BTD.shape
        qkv = self.qkv(self.norm1(x_BTD)).view(batch, tokens, 3, self.heads, width // self.heads)
        q_BSTQ, k_BSTQ, v_BSTQ = qkv.permute(2, 0, 3, 1, 4)
        # A row that is all padding attends to itself: without any key the softmax would be NaN.
        keys_BT = kept_BT | ~kept_BT.any(dim=1, keepdim=True)
        y_BSTQ = F.scaled_dot_product_attention(q_BSTQ, k_BSTQ, v_BSTQ, attn_mask=keys_BT[:, None, None, :])
        return x_BTD + cast(Tensor, self.out(y_BSTQ.transpose(1, 2).reshape(batch, tokens, width)))

    def forward(self, streams: list[_Stream]) -> tuple[list[_Stream], Tensor | None]:
        """Each stream attends for itself, then all pass the MLP together."""
        seen = [self.attend(stream.x_BTD, stream.kept_BT) for stream in streams]
        x_BTD = torch.cat(seen, dim=1) if len(seen) > 1 else seen[0]
        loss = None
        if isinstance(self.mlp, Mlp):
            x_BTD = x_BTD + self.mlp(self.norm2(x_BTD))
        else:
            kept_BT = torch.cat([stream.kept_BT for stream in streams], dim=1)
            told = [torch.full_like(stream.kept_BT, stream.modality, dtype=torch.int64) for stream in streams]
            y_BTD, loss = self.mlp(self.norm2(x_BTD), kept_BT, torch.cat(told, dim=1))
            x_BTD = x_BTD + y_BTD
        parts = x_BTD.split_with_sizes([stream.x_BTD.shape[1] for stream in streams], dim=1)
        moved = [_Stream(part, stream.kept_BT, stream.modality) for part, stream in zip(parts, streams, strict=True)]
        return moved, loss


def _blocks(config: TrunkConfig) -> nn.ModuleList:
    mixed = [bool(config.experts) and (config.layers - 1 - i) % config.every == 0 for i in range(config.layers)]
    return nn.ModuleList(TrunkBlock(config, yes) for yes in mixed)


def _through(
    blocks: nn.ModuleList, image: _Stream | None, text: _Stream | None, losses: list[Tensor]
) -> tuple[_Stream | None, _Stream | None]:
    streams = [stream for stream in (image, text) if stream is not None]
    if not streams:
        return None, None
    for block in blocks:
        streams, loss = block(streams)
        if loss is not None:
            losses.append(loss)
    by_modality = {stream.modality: stream for stream in streams}
    return by_modality.get(IMAGE), by_modality.get(TEXT)


def _mean(x_BLD: Tensor, kept_BL: Tensor) -> Tensor:
    kept_BL1 = kept_BL[..., None].to(x_BLD.dtype)
    return (x_BLD * kept_BL1).sum(dim=1) / kept_BL1.sum(dim=1).clamp(min=1)
