"""Stacked expert MLPs, gated (SwiGLU) or plain (GELU), with or without biases.

The weights have the shapes and the attributes that Hugging Face's ``integrations.moe`` expects, so each of its back
ends can run them; ``apply_experts`` runs the back end of this package by default.

Shape suffixes: N tokens, K experts per token, S = N·K rows sorted by expert, D width, F hidden width of an expert,
G rows of the first matrix (2F gate and up for SwiGLU, F for GELU), E experts.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from clerestory.core.errors import not_found
from clerestory.models.moe.dispatch import combine, dispatch, sort_by_expert
from clerestory.models.moe.grouped import grouped_linear

ExpertKind = Literal["gelu", "swiglu"]
EXPERT_KINDS: tuple[ExpertKind, ...] = ("gelu", "swiglu")
OWN_BACKEND = "clerestory"
BLOCK_ELEMENTS = 1 << 16  # elements of one tensor that a CPU processes at a time
FUSED_MIN_ELEMENTS = 1 << 17  # below this size the fused Function costs more than it saves


class StackedExperts(nn.Module):
    """``E`` MLPs of equal size, with stacked weights.

    Args:
        width: D.
        hidden: F of one expert.
        experts: E.
        kind: ``gelu`` is ``down(gelu(up(x)))``, ``swiglu`` is ``down(silu(gate(x)) * up(x))``.
        bias: whether both linear layers have biases.

    Attributes:
        backend: ``clerestory``, or one of Hugging Face's back ends: ``batched_mm``, ``grouped_mm`` …
    """

    # Attributes that Hugging Face's back ends read.
    is_transposed = False
    is_concatenated = True
    has_post_expert_norm = False
    _is_expert_parallel = False

    def __init__(self, width: int, hidden: int, experts: int, kind: ExpertKind = "gelu", bias: bool = False) -> None:
        super().__init__()
        if kind not in EXPERT_KINDS:
            raise not_found("kind of expert", kind, EXPERT_KINDS)
        self.num_experts, self.kind, self.backend = experts, kind, OWN_BACKEND
        self.has_gate, self.has_bias = kind == "swiglu", bias
        first = 2 * hidden if self.has_gate else hidden
        # A plain expert's first matrix keeps the name it had in the first version, so that old weights load.
        self.register_parameter("up_EFD", None if self.has_gate else _empty(experts, first, width))
        self.register_parameter("gate_up_EGD", _empty(experts, first, width) if self.has_gate else None)
        self.down_EDF = _empty(experts, width, hidden)
        self.register_parameter("first_bias_EG", nn.Parameter(torch.zeros(experts, first)) if bias else None)
        self.register_parameter("down_bias_ED", nn.Parameter(torch.zeros(experts, width)) if bias else None)

    @property
    def first_EGD(self) -> nn.Parameter:
        """The first matrix of every expert: gate and up projections stacked, or the up projection alone."""
        # Exactly one of the two exists.
        return cast(nn.Parameter, self.gate_up_EGD if self.has_gate else self.up_EFD)

    @property
    def hidden(self) -> int:
        """F, the hidden width of one expert."""
        return int(self.down_EDF.shape[2])

    gate_up_proj = up_proj = first_EGD

    @property
    def down_proj(self) -> nn.Parameter:
        """``(E, D, F)``, by Hugging Face's name."""
        return self.down_EDF

    @property
    def up_proj_bias(self) -> Tensor | None:
        """``(E, G)``, by Hugging Face's name."""
        return cast("Tensor | None", self.first_bias_EG)

    gate_up_proj_bias = up_proj_bias

    @property
    def down_proj_bias(self) -> Tensor | None:
        """``(E, D)``, by Hugging Face's name."""
        return cast("Tensor | None", self.down_bias_ED)

    def act_fn(self, x_SF: Tensor) -> Tensor:
        """The activation: SiLU of a gated expert, GELU of a plain one."""
        return F.silu(x_SF) if self.has_gate else F.gelu(x_SF)

    def _apply_gate(self, x_SG: Tensor) -> Tensor:
        gate_SF, up_SF = x_SG.chunk(2, dim=-1)
        return F.silu(gate_SF) * up_SF

    def apply_experts(self, x_ND: Tensor, experts_NK: Tensor, weights_NK: Tensor) -> Tensor:
        """``sum_k weights[n, k] * expert[experts[n, k]](x[n])``: ``(N, D)``, of x's dtype.

        Raises:
            NotFound: ``backend`` does not exist.
        """
        if self.backend != OWN_BACKEND:
            if self.backend not in ALL_EXPERTS_FUNCTIONS:
                raise not_found("back end for experts", self.backend, [OWN_BACKEND, *ALL_EXPERTS_FUNCTIONS])
            return cast(Tensor, ALL_EXPERTS_FUNCTIONS[self.backend](self, x_ND, experts_NK, weights_NK))
        order = sort_by_expert(experts_NK, self.num_experts)
        weights_S = weights_NK.flatten().index_select(0, order.order_S)
        first_SG = grouped_linear(
            dispatch(x_ND, order), self.first_EGD, order.offsets_E, cast("Tensor | None", self.first_bias_EG)
        )
        # The second layer is linear: weighting the narrower hidden rows equals weighting its outputs.
        h_SF = weighted_activation(first_SG, weights_S, self.has_gate)
        y_SD = grouped_linear(h_SF, self.down_EDF, order.offsets_E)
        if self.has_bias:
            weights_NE = torch.zeros(x_ND.shape[0], self.num_experts, dtype=weights_NK.dtype, device=x_ND.device)
            bias_ND = weights_NE.scatter(1, experts_NK, weights_NK) @ cast(Tensor, self.down_bias_ED).to(
                weights_NK.dtype
            )
            return (combine(y_SD, order) + bias_ND).to(x_ND.dtype)
        return combine(y_SD, order).to(x_ND.dtype)


class Mlp(nn.Module):
    """A dense MLP: the MLP of a Transformer block without experts, and a shared expert.

    Args:
        width, hidden, kind, bias: as for ``StackedExperts``.
    """

    def __init__(self, width: int, hidden: int, kind: ExpertKind = "gelu", bias: bool = False) -> None:
        super().__init__()
        self.gated = kind == "swiglu"
        self.up = nn.Linear(width, 2 * hidden if self.gated else hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x_ND: Tensor) -> Tensor:
        """``(…, D)`` to the same shape."""
        h_NG = self.up(x_ND)
        if self.gated:
            gate_NF, up_NF = h_NG.chunk(2, dim=-1)
            return cast(Tensor, self.down(F.silu(gate_NF) * up_NF))
        return cast(Tensor, self.down(F.gelu(h_NG)))


def weighted_activation(first_SG: Tensor, weights_S: Tensor, gated: bool) -> Tensor:
    """``silu(gate) * up * weight``, or ``gelu(up) * weight``: ``(S, F)`` of the first argument's dtype."""
    weights_S1 = weights_S.to(first_SG.dtype)[:, None]
    if not gated:
        return F.gelu(first_SG) * weights_S1
    if first_SG.numel() > FUSED_MIN_ELEMENTS or weights_S.dtype != first_SG.dtype:
        return cast(Tensor, _WeightedSwiglu.apply(first_SG, weights_S1))
    gate_SF, up_SF = first_SG.chunk(2, dim=-1)
    return F.silu(gate_SF) * up_SF * weights_S1


class _WeightedSwiglu(Function):
    """SwiGLU that saves only its inputs and writes both halves of the gradient into one tensor.

    On a CPU it processes the rows in blocks that fit the cache, which halves its time.
    """

    @staticmethod
    def forward(ctx: Any, first_SG: Tensor, weights_S1: Tensor) -> Tensor:
        ctx.save_for_backward(first_SG, weights_S1)
        gate_SF, up_SF = first_SG.chunk(2, dim=-1)
        h_SF = torch.empty_like(gate_SF, memory_format=torch.contiguous_format)
        for rows in _blocks(gate_SF):
            h = torch.ops.aten.silu.out(gate_SF[rows], out=h_SF[rows])
            h.mul_(up_SF[rows]).mul_(weights_S1[rows])
        return h_SF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh_SF: Tensor) -> tuple[Tensor, Tensor]:
        first_SG, weights_S1 = ctx.saved_tensors
        gate_SF, up_SF = first_SG.chunk(2, dim=-1)
        dfirst_SG = torch.empty_like(first_SG)
        dgate_SF, dup_SF = dfirst_SG.chunk(2, dim=-1)
        # The weight's gradient is a sum over many columns: never in half precision.
        dtype = torch.promote_types(first_SG.dtype, torch.float32)
        dweights_S1 = torch.empty_like(weights_S1, dtype=dtype)
        for rows in _blocks(gate_SF):
            gate, weights, dh = gate_SF[rows], weights_S1[rows], dh_SF[rows]
            silu, dsilu = F.silu(gate), dh * up_SF[rows]
            torch.mul(dh, silu, out=dup_SF[rows]).mul_(weights)
            torch.sum(silu.mul_(dsilu), dim=-1, keepdim=True, dtype=dtype, out=dweights_S1[rows])
            torch.ops.aten.silu_backward.grad_input(dsilu.mul_(weights), gate, grad_input=dgate_SF[rows])
        return dfirst_SG, dweights_S1.to(weights_S1.dtype)


def _blocks(x_SF: Tensor) -> list[slice]:
    rows = max(1, BLOCK_ELEMENTS // max(1, x_SF.shape[1])) if x_SF.device.type == "cpu" else max(1, x_SF.shape[0])
    return [slice(start, start + rows) for start in range(0, x_SF.shape[0], rows)]


def _empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape))
