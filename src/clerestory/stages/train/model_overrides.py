"""Changes to a preset's architecture."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from clerestory.core.settings import Range, check_settings

Size = Annotated[int, Range(1)] | None
Count = Annotated[int, Range(0)] | None
Sizes = tuple[Annotated[int, Range(1)], ...] | None
Counts = tuple[Annotated[int, Range(0)], ...] | None


@dataclass(frozen=True, slots=True)
class ModelOverrides:
    """What a run changes about the preset's model; None takes the preset's value.

    Attributes:
        image_size: side of the square image in pixels.
        stem_channels: channels after each stride-2 convolution; their number sets the grid of tokens.
        stem_residuals: residual blocks after each of those convolutions.
        width: of the image tower's Transformer blocks.
        layers: number of these blocks.
        heads: attention heads of each.
        mlp_ratio: hidden width of their dense MLP divided by ``width``.
        experts: experts of each block's MLP; 0 for a dense MLP.
        experts_per_token: experts that each token is routed to.
        expert_kind: ``gelu`` or ``swiglu``.
        expert_split: whether a token's experts together are as wide as the dense MLP, at the same cost; otherwise
            each of them is.
        expert_bias: whether experts have biases.
        expert_gate: ``softmax`` or ``sigmoid``.
        shared_experts: additional experts that every token is routed to.
        expert_balance: ``loss`` (a load-balancing loss), ``bias`` (loss-free) or ``both``.
        expert_z_weight: weight of the router's z-loss relative to its balancing loss.
        decoder_experts: experts of each MLP of the caption decoder; 0 for dense ones.
        decoder_width: width of the caption decoder.
        decoder_layers: its blocks.
        decoder_heads: its attention heads.
        max_caption_tokens: longest caption it reads or writes.
    """

    image_size: Size = None
    stem_channels: Sizes = None
    stem_residuals: Counts = None
    width: Size = None
    layers: Size = None
    heads: Size = None
    mlp_ratio: Size = None
    experts: Count = None
    experts_per_token: Size = None
    expert_kind: Literal["gelu", "swiglu"] | None = None
    expert_split: bool | None = None
    expert_bias: bool | None = None
    expert_gate: Literal["softmax", "sigmoid"] | None = None
    shared_experts: Count = None
    expert_balance: Literal["loss", "bias", "both"] | None = None
    expert_z_weight: Annotated[float, Range(0)] | None = None
    decoder_experts: Count = None
    decoder_width: Size = None
    decoder_layers: Size = None
    decoder_heads: Size = None
    max_caption_tokens: Size = None

    def __post_init__(self) -> None:
        check_settings(self)

    def changes(self) -> dict[str, Any]:
        """The settings that are not None."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
