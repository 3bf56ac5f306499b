"""A trained dense model as the start of one with experts, with the identical function at step 0.

Shape suffixes: D width, H hidden width of the dense MLP, F of an expert, E experts, K experts per token.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves a few of the functions called here without types.

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from clerestory.core.errors import ConfigError
from clerestory.models.moe.experts import Kind
from clerestory.models.moe.layer import MixtureOfExperts
from clerestory.models.moe.losses import LossWeights
from clerestory.models.moe.routing import Gate


class Dense(Protocol):
    """An MLP of two linear layers; for SwiGLU the first holds gate and up above one another."""

    up: nn.Linear
    down: nn.Linear


@torch.no_grad()
def upcycle(
    mlp: Dense,
    experts: int,
    top_k: int,
    *,
    split: bool = False,
    gate: Gate = "softmax",
    steered: bool = False,
    losses: LossWeights | None = None,
    gate_std: float = 0.02,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> MixtureOfExperts:
    """A mixture that computes what the MLP computes (Komatsuzaki et al. 2022).

    Copied: every expert is the whole MLP, and the gate values sum to 1; a token costs K times as much as before.
    Split (virtual groups, He et al. 2024): expert ``e`` is slice ``e % K`` of the MLP, and the K slices of a group
    share one row of the gate, so the best K experts are the slices of one group; a token costs what it did before.

    Args:
        mlp: GELU, or SwiGLU where its first layer is twice as wide as the second reads.
        experts: E; a multiple of ``top_k`` when split.
        top_k: K.
        split: see above; H must be a multiple of K.
        gate: ``softmax`` or ``sigmoid``.
        steered: whether a bias on the scores balances the load.
        losses: weights of the router's losses.
        gate_std: of the gate's new weights; they start small, so that no expert is preferred for long by chance.
        noise: standard deviation of what is added to each expert's weights, relative to theirs; 0 keeps the function.
        generator: of the gate and the noise.

    Raises:
        ConfigError: the MLP cannot be split so.
    """
    kind: Kind = "swiglu" if mlp.up.out_features == 2 * mlp.down.in_features else "gelu"
    width, hidden = mlp.up.in_features, mlp.down.in_features
    parts = top_k if split else 1
    if hidden % parts or experts % parts:
        raise ConfigError(
            f"an MLP of {hidden} cannot become {experts} experts in groups of {parts}",
            "make the hidden width and the number of experts multiples of top_k, or leave split out",
        )
    biased = mlp.up.bias is not None
    mixture = MixtureOfExperts(
        width, hidden // parts, experts, top_k, kind=kind, bias=biased, gate=gate, steered=steered, losses=losses
    ).to(device=mlp.up.weight.device, dtype=mlp.up.weight.dtype)
    of_E = [e % parts for e in range(experts)]
    first, down = _slices(mlp.up.weight, parts, kind), mlp.down.weight.chunk(parts, dim=1)
    mixture.first_EGD.copy_(torch.stack([first[p] for p in of_E]))
    # Each slice counts 1 / K of a token's gate, and all of them together must count 1.
    mixture.down_EDF.copy_(torch.stack([down[p] for p in of_E]) * parts)
    if biased:
        bias = _slices(mlp.up.bias, parts, kind)
        cast(Tensor, mixture.first_bias_EG).copy_(torch.stack([bias[p] for p in of_E]))
        cast(Tensor, mixture.down_bias_ED).copy_(mlp.down.bias.expand(experts, -1))
    rows = torch.randn(experts // parts, width, generator=generator) * gate_std
    mixture.gate.weight.copy_(rows.repeat_interleave(parts, dim=0))
    if noise:
        for weight in (mixture.first_EGD, mixture.down_EDF):
            weight.add_(torch.randn(weight.shape, generator=generator).to(weight), alpha=noise * weight.std().item())
    return mixture


def _slices(rows: Tensor, parts: int, kind: Kind) -> list[Tensor]:
    """Equal parts of the hidden rows; of gate and up alike where there are both."""
    if kind == "gelu":
        return list(rows.chunk(parts))
    gate, up = rows.chunk(2)
    return [torch.cat(pair) for pair in zip(gate.chunk(parts), up.chunk(parts), strict=True)]
