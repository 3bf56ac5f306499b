"""Changes to a preset's architecture that a training run may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from clerestory.core.errors import ConfigError

MAY_BE_NONE = ("experts", "decoder_experts", "shared_experts", "expert_z_weight")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a run changes about the preset's model; a setting left at None is the preset's.

    Attributes:
        image_size: side of the square picture in pixels.
        stem_channels: channels after each stride-2 convolution; their number sets the grid of tokens.
        stem_residuals: residual blocks after each of those convolutions.
        width: of the image tower's Transformer blocks.
        layers: how many such blocks.
        heads: of their attention.
        mlp_ratio: hidden width of their dense MLP divided by ``width``.
        experts: experts of each block's MLP; 0 for a dense one.
        experts_per_token: how many of them each token visits.
        expert_kind: ``gelu`` or ``swiglu``.
        expert_split: whether the experts a token visits are together as wide as the dense MLP, so that it costs the
            same; otherwise each of them is.
        expert_bias: whether experts have biases.
        expert_gate: ``softmax`` or ``sigmoid``.
        shared_experts: experts that every token visits besides.
        expert_balance: ``loss`` (a loss on the load), ``bias`` (loss-free) or ``both``.
        expert_z_weight: weight of the router's z-loss beside its balance loss.
        decoder_experts: experts of each MLP of the caption decoder; 0 for dense ones.
        decoder_width: of the caption decoder.
        decoder_layers: its blocks.
        decoder_heads: of its attention.
        max_caption_tokens: longest caption it reads or writes.
    """

    image_size: int | None = None
    stem_channels: tuple[int, ...] | None = None
    stem_residuals: tuple[int, ...] | None = None
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    mlp_ratio: int | None = None
    experts: int | None = None
    experts_per_token: int | None = None
    expert_kind: Literal["gelu", "swiglu"] | None = None
    expert_split: bool | None = None
    expert_bias: bool | None = None
    expert_gate: Literal["softmax", "sigmoid"] | None = None
    shared_experts: int | None = None
    expert_balance: Literal["loss", "bias", "both"] | None = None
    expert_z_weight: float | None = None
    decoder_experts: int | None = None
    decoder_width: int | None = None
    decoder_layers: int | None = None
    decoder_heads: int | None = None
    max_caption_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that are no sizes."""
        for name, value in self.changes().items():
            least = 0 if name in MAY_BE_NONE else 1
            if isinstance(value, int | float) and not isinstance(value, bool) and value < least:
                raise ConfigError(f"model.{name} is {value}", f"it takes a number of at least {least}")

    def changes(self) -> dict[str, Any]:
        """The settings that are given."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in given.items() if value is not None}
