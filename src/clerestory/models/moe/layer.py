"""A mixture of experts in place of a Transformer block's MLP: top-k, dropless, gate in fp32.

Shape suffixes: N tokens that count, D width, F hidden width of an expert, E experts, K experts per token.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clerestory.core.errors import ConfigError, not_found
from clerestory.models.moe.experts import Experts, Kind, Mlp
from clerestory.models.moe.losses import LossWeights, router_loss
from clerestory.models.moe.routing import GATES, Gate, Routing, count, route


class Seen(NamedTuple):
    """What a watcher of a mixture is told of one forward pass.

    Attributes:
        routing: of the N tokens that count.
        kept: which of the input's tokens these are, of the input's shape without D; None: all.
        modality: their modalities, of the input's shape without D; None: not told.
        shape: the input's shape without D.
    """

    routing: Routing
    kept: Tensor | None
    modality: Tensor | None
    shape: torch.Size


class MixtureOfExperts(Experts):
    """Each token visits the ``top_k`` experts its gate prefers; no token is dropped and none padded.

    The tokens are sorted by expert (stable), each expert multiplies its own contiguous slice, and the inverse
    permutation brings the results back, so the sum over K has a fixed order. The oracle in the tests is the naive
    loop ``sum_k gate[n, k] * expert[index[n, k]](x[n])``.

    Args:
        width: D.
        hidden: F of one expert. With ``hidden = dense_hidden / top_k`` a token costs what it costs in a dense MLP.
        experts: E.
        top_k: K.
        kind: ``gelu`` or ``swiglu`` experts.
        bias: whether the experts have biases.
        gate: ``softmax`` or ``sigmoid``.
        scale: what a token's gate values sum to.
        shared: experts that every token visits besides, as one MLP of ``shared * hidden``.
        steered: whether a bias on the scores balances the load (see ``balancing``).
        losses: weights of the router's losses.

    Attributes:
        modality: of all its tokens, for whoever watches it, where no call says otherwise; None: not known.
        counts_E: choices of each expert in training since ``balancing`` last took them; not part of the weights.
        bias_E: the steering bias, None without.
    """

    counts_E: Tensor
    bias_E: Tensor | None

    def __init__(
        self,
        width: int,
        hidden: int,
        experts: int,
        top_k: int,
        *,
        kind: Kind = "gelu",
        bias: bool = False,
        gate: Gate = "softmax",
        scale: float = 1.0,
        shared: int = 0,
        steered: bool = False,
        losses: LossWeights | None = None,
    ) -> None:
        super().__init__(width, hidden, experts, kind, bias)
        if gate not in GATES:
            raise not_found("kind of gate", gate, GATES)
        if not 1 <= top_k <= experts:
            raise ConfigError(f"each token visits 1 to {experts} experts, not {top_k}")
        self.top_k, self.gate_kind, self.scale = top_k, gate, scale
        self.losses = losses or LossWeights()
        self.gate = nn.Linear(width, experts, bias=False)
        self.shared = Mlp(width, shared * hidden, kind, bias) if shared else None
        self.register_buffer("bias_E", torch.zeros(experts, dtype=torch.float32) if steered else None)
        self.register_buffer("counts_E", torch.zeros(experts, dtype=torch.int64), persistent=False)
        self.modality: int | None = None
        self._watchers: list[Callable[[Seen], None]] = []
        self.reset()

    @torch.no_grad()
    def reset(self, std: float = 0.02, init: Any = nn.init) -> None:
        """Truncated normal weights; zero biases, steering bias and counts.

        Args:
            std: of the weights.
            init: where ``trunc_normal_`` and ``zeros_`` come from: Hugging Face's leave alone what a file has set.
        """
        for weight in (self.first_EGD, self.down_EDF):
            init.trunc_normal_(weight, std=std)
        for zeros in (self.first_bias_EG, self.down_bias_ED, self.bias_E, self.counts_E):
            if zeros is not None:
                init.zeros_(zeros)

    def forward(
        self, x_ND: Tensor, kept_N: Tensor | None = None, modality_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The mixed output, of x's shape, and the router's loss, a scalar.

        Args:
            x_ND: tokens ``(…, D)``.
            kept_N: ``(…)``, False for padding: such tokens visit no expert, count nowhere and come back as zeros.
            modality_N: ``(…)`` of ``IMAGE`` and ``TEXT``, for the entropy losses.
        """
        shape, flat_ND = x_ND.shape, x_ND.flatten(0, -2)
        chosen = None if kept_N is None else kept_N.flatten().nonzero().squeeze(1)
        own_ND = flat_ND if chosen is None else flat_ND.index_select(0, chosen)
        own_N = None if modality_N is None else modality_N.flatten()
        if own_N is not None and chosen is not None:
            own_N = own_N.index_select(0, chosen)
        routing = self.route(own_ND)
        counts_E = count(routing.experts_NK, self.num_experts)
        if self.training and not recomputing():
            self.counts_E += counts_E
        for watcher in self._watchers:
            watcher(Seen(routing, kept_N, modality_N, shape[:-1]))
        y_ND = self.mix(own_ND, routing.experts_NK, routing.weights_NK)
        if self.shared is not None:
            y_ND = y_ND + self.shared(own_ND)
        if chosen is not None:
            y_ND = torch.zeros_like(flat_ND, dtype=y_ND.dtype).index_copy(0, chosen, y_ND)
        return y_ND.view(shape), router_loss(routing, counts_E, own_N, self.losses)

    def route(self, x_ND: Tensor) -> Routing:
        """The choices of tokens ``(N, D)``."""
        return route(x_ND, self.gate.weight, self.top_k, self.gate_kind, self.bias_E, self.scale)

    def watch(self, watcher: Callable[[Seen], None]) -> Callable[[], None]:
        """Call ``watcher`` in every forward pass until the function returned here is called."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MixtureOfExperts:
        """Moves and casts as any module, but the steering bias stays fp32: bf16 would swallow its small steps."""
        before = self.bias_E
        super()._apply(fn, recurse)
        if before is not None and self.bias_E is not None and self.bias_E.dtype != torch.float32:
            kept = self.bias_E if before.is_meta else before
            self.bias_E = kept.to(self.bias_E.device, torch.float32)
        return self


def mixtures(model: nn.Module) -> dict[str, MixtureOfExperts]:
    """Every mixture of a model by its name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, MixtureOfExperts)}


def recomputing() -> bool:
    """Whether this forward pass is activation checkpointing's second one, which runs inside the backward pass."""
    return torch._C._current_graph_task_id() != -1
