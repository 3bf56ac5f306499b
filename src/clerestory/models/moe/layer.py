"""A mixture of experts in place of a Transformer block's MLP: top-k, dropless, gate in fp32.

Shape suffixes: N tokens without padding, D width, F hidden width of an expert, E experts, K experts per token.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clerestory.core.errors import ConfigError, not_found
from clerestory.models.moe.experts import ExpertKind, Mlp, StackedExperts
from clerestory.models.moe.losses import LossWeights, router_loss
from clerestory.models.moe.routing import GATES, Gate, Routing, route, tokens_per_expert

IMAGE, TEXT = 0, 1
MODALITIES = ("image", "text")


class RoutingEvent(NamedTuple):
    """One forward pass of a mixture, as routing hooks receive it.

    Attributes:
        routing: of the N tokens without padding.
        valid: which tokens of the input these are, of the input's shape without D; None: all.
        shape: the input's shape without D.
    """

    routing: Routing
    valid: Tensor | None
    shape: torch.Size


class MixtureOfExperts(StackedExperts):
    """Each token is routed to the ``top_k`` experts with the highest gate scores; no token is dropped or padded.

    The tokens are sorted by expert (stable), each expert multiplies its own contiguous slice, and the inverse
    permutation brings the results back, so the sum over K has a fixed order. The oracle in the tests is the naive
    loop ``sum_k gate[n, k] * expert[index[n, k]](x[n])``.

    Args:
        width: D.
        hidden: F of one expert. With ``hidden = dense_hidden / top_k`` a token costs the same as in a dense MLP.
        experts: E.
        top_k: K.
        kind: ``gelu`` or ``swiglu`` experts.
        bias: whether the linear layers of the experts have biases.
        gate: ``softmax`` or ``sigmoid``.
        scale: the sum of a token's gate values.
        shared: number of shared experts, to which every token is routed in addition, as one MLP of ``shared * hidden``.
        balance_with_bias: whether an expert bias on the scores balances the load (see ``balancing``).
        losses: weights of the router's auxiliary losses.

    Attributes:
        modality: ``IMAGE`` or ``TEXT``, the modality of all its tokens; None if unknown.
        counts_E: tokens per expert in training since ``balancing`` last reset them; not part of the weights.
        expert_bias_E: the expert bias, None without ``balance_with_bias``.
    """

    counts_E: Tensor
    expert_bias_E: Tensor | None

    def __init__(
        self,
        width: int,
        hidden: int,
        experts: int,
        top_k: int,
        *,
        kind: ExpertKind = "gelu",
        bias: bool = False,
        gate: Gate = "softmax",
        scale: float = 1.0,
        shared: int = 0,
        balance_with_bias: bool = False,
        losses: LossWeights | None = None,
    ) -> None:
        super().__init__(width, hidden, experts, kind, bias)
        if gate not in GATES:
            raise not_found("kind of gate", gate, GATES)
        if not 1 <= top_k <= experts:
            raise ConfigError(f"top_k is {top_k}, but there are {experts} experts", f"use 1 to {experts}")
        self.top_k, self.gate_kind, self.scale = top_k, gate, scale
        self.losses = losses or LossWeights()
        self.gate = nn.Linear(width, experts, bias=False)
        self.shared = Mlp(width, shared * hidden, kind, bias) if shared else None
        expert_bias_E = torch.zeros(experts, dtype=torch.float32) if balance_with_bias else None
        self.register_buffer("expert_bias_E", expert_bias_E)
        self.register_buffer("counts_E", torch.zeros(experts, dtype=torch.int64), persistent=False)
        self.modality: int | None = None
        self._routing_hooks: list[Callable[[RoutingEvent], None]] = []
        self.reset()

    @torch.no_grad()
    def reset(self, std: float = 0.02, init: Any = nn.init) -> None:
        """Truncated normal weights; zero biases, expert bias and counts.

        Args:
            std: of the weights.
            init: the module that provides ``trunc_normal_`` and ``zeros_``; Hugging Face's skips loaded weights.
        """
        for weight in (self.first_EGD, self.down_EDF):
            init.trunc_normal_(weight, std=std)
        for zeros in (self.first_bias_EG, self.down_bias_ED, self.expert_bias_E, self.counts_E):
            if zeros is not None:
                init.zeros_(zeros)

    def forward(self, x_ND: Tensor, valid_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mixture's output, of x's shape, and the router's loss, a scalar.

        Args:
            x_ND: tokens ``(…, D)``.
            valid_N: ``(…)``, False for padding: padded tokens are not routed or counted, and their outputs are 0.
        """
        shape, flat_ND = x_ND.shape, x_ND.flatten(0, -2)
        rows = None if valid_N is None else valid_N.flatten().nonzero().squeeze(1)
        tokens_ND = flat_ND if rows is None else flat_ND.index_select(0, rows)
        routing = self.route(tokens_ND)
        counts_E = tokens_per_expert(routing.experts_NK, self.num_experts)
        if self.training and not is_recomputation():
            self.counts_E += counts_E
        for hook in self._routing_hooks:
            hook(RoutingEvent(routing, valid_N, shape[:-1]))
        y_ND = self.apply_experts(tokens_ND, routing.experts_NK, routing.weights_NK)
        if self.shared is not None:
            y_ND = y_ND + self.shared(tokens_ND)
        if rows is not None:
            y_ND = torch.zeros_like(flat_ND, dtype=y_ND.dtype).index_copy(0, rows, y_ND)
        return y_ND.view(shape), router_loss(routing, counts_E, self.losses)

    def route(self, x_ND: Tensor) -> Routing:
        """The routing of tokens ``(N, D)``."""
        return route(x_ND, self.gate.weight, self.top_k, self.gate_kind, self.expert_bias_E, self.scale)

    def register_routing_hook(self, hook: Callable[[RoutingEvent], None]) -> Callable[[], None]:
        """Call ``hook`` in every forward pass until the returned function is called."""
        self._routing_hooks.append(hook)
        return lambda: self._routing_hooks.remove(hook)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MixtureOfExperts:
        """Moves and casts as any module, except that the expert bias stays fp32: its small updates vanish in bf16."""
        before = self.expert_bias_E
        super()._apply(fn, recurse)
        if before is not None and self.expert_bias_E is not None and self.expert_bias_E.dtype != torch.float32:
            values = self.expert_bias_E if before.is_meta else before
            self.expert_bias_E = values.to(self.expert_bias_E.device, torch.float32)
        return self


def mixtures(model: nn.Module) -> dict[str, MixtureOfExperts]:
    """Every mixture of a model, by its name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, MixtureOfExperts)}


def is_recomputation() -> bool:
    """Whether this forward pass is the recomputation of activation checkpointing, inside the backward pass."""
    return torch._C._current_graph_task_id() != -1
