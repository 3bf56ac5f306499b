"""Upcycling: a mixture of experts initialised from a trained dense MLP, with the identical function at step 0.

Shape suffixes: D width, H hidden width of the dense MLP, F of an expert, E experts, K experts per token.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves a few of the functions called here without types.

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from clerestory.core.errors import ConfigError
from clerestory.models.moe.experts import ExpertKind
from clerestory.models.moe.layer import MixtureOfExperts
from clerestory.models.moe.losses import LossWeights
from clerestory.models.moe.routing import Gate


class DenseMlp(Protocol):
    """An MLP of two linear layers; for SwiGLU the first stacks the gate and up projections."""

    up: nn.Linear
    down: nn.Linear


@torch.no_grad()
def upcycle(
    mlp: DenseMlp,
    experts: int,
    top_k: int,
    *,
    split: bool = False,
    gate: Gate = "softmax",
    balance_with_bias: bool = False,
    losses: LossWeights | None = None,
    gate_std: float = 0.02,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> MixtureOfExperts:
    """A mixture with the same function as the MLP (Komatsuzaki et al. 2022).

    Without ``split``, every expert is the whole MLP, and the gate values sum to 1; a token costs K times as much. With
    ``split`` (virtual groups, He et al. 2024), expert ``e`` is slice ``e % K`` of the MLP, and the K slices of a group
    share one row of the gate, so the top K experts are the slices of one group; a token costs the same as before.

    Args:
        mlp: GELU, or SwiGLU if the output of its first layer is twice as wide as the input of the second.
        experts: E; a multiple of ``top_k`` with ``split``.
        top_k: K.
        split: see above; H must be a multiple of K.
        gate: ``softmax`` or ``sigmoid``.
        balance_with_bias: whether an expert bias on the scores balances the load.
        losses: weights of the router's auxiliary losses.
        gate_std: of the gate's new weights; small, so that the initial preference for an expert does not last.
        noise: standard deviation of the noise added to each expert's weights, as a multiple of that of the weights; 0
            keeps the function.
        generator: of the gate and the noise.

    Raises:
        ConfigError: the hidden width or the number of experts is not a multiple of K.
    """
    kind: ExpertKind = "swiglu" if mlp.up.out_features == 2 * mlp.down.in_features else "gelu"
    width, hidden = mlp.up.in_features, mlp.down.in_features
    num_slices = top_k if split else 1
    if hidden % num_slices or experts % num_slices:
        raise ConfigError(
            f"an MLP of hidden width {hidden} cannot be split into {experts} experts in groups of {num_slices}",
            "make the hidden width and the number of experts multiples of top_k, or set split=False",
        )
    has_bias = mlp.up.bias is not None
    mixture = MixtureOfExperts(
        width,
        hidden // num_slices,
        experts,
        top_k,
        kind=kind,
        bias=has_bias,
        gate=gate,
        balance_with_bias=balance_with_bias,
        losses=losses,
    ).to(device=mlp.up.weight.device, dtype=mlp.up.weight.dtype)
    slice_E = [e % num_slices for e in range(experts)]
    first, down = _slices(mlp.up.weight, num_slices, kind), mlp.down.weight.chunk(num_slices, dim=1)
    mixture.first_EGD.copy_(torch.stack([first[i] for i in slice_E]))
    # The gate weights each slice by 1 / K, but the slices must add up to the whole MLP.
    mixture.down_EDF.copy_(torch.stack([down[i] for i in slice_E]) * num_slices)
    if has_bias:
        bias = _slices(mlp.up.bias, num_slices, kind)
        cast(Tensor, mixture.first_bias_EG).copy_(torch.stack([bias[i] for i in slice_E]))
        cast(Tensor, mixture.down_bias_ED).copy_(mlp.down.bias.expand(experts, -1))
    rows = torch.randn(experts // num_slices, width, generator=generator) * gate_std
    mixture.gate.weight.copy_(rows.repeat_interleave(num_slices, dim=0))
    if noise:
        for weight in (mixture.first_EGD, mixture.down_EDF):
            weight.add_(torch.randn(weight.shape, generator=generator).to(weight), alpha=noise * weight.std().item())
    return mixture


def _slices(rows: Tensor, num_slices: int, kind: ExpertKind) -> list[Tensor]:
    """Equal slices of the hidden rows; for SwiGLU each slice has its rows of gate and up."""
    if kind == "gelu":
        return list(rows.chunk(num_slices))
    gate, up = rows.chunk(2)
    return [torch.cat(pair) for pair in zip(gate.chunk(num_slices), up.chunk(num_slices), strict=True)]
