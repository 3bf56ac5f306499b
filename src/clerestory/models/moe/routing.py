"""Top-k routing: the experts of each token and their weights.

Shape suffixes: N tokens, D width, E experts, K experts per token.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Gate = Literal["softmax", "sigmoid"]
GATES: tuple[Gate, ...] = ("softmax", "sigmoid")
EPS = 1e-20


class Routing(NamedTuple):
    """The routing of a batch of tokens, all in fp32.

    Attributes:
        experts_NK: the experts of each token, highest score first.
        weights_NK: the weight of each of them in the output.
        probabilities_NE: the gate as a distribution over all experts, for the losses.
        logits_NE: the output of the gate.
    """

    experts_NK: Tensor
    weights_NK: Tensor
    probabilities_NE: Tensor
    logits_NE: Tensor


def route(
    x_ND: Tensor,
    gate_ED: Tensor,
    top_k: int,
    gate: Gate = "softmax",
    expert_bias_E: Tensor | None = None,
    scale: float = 1.0,
) -> Routing:
    """Top-k routing in fp32, whatever the input's dtype and autocast (fp64 stays fp64).

    The experts are chosen by ``scores + expert_bias``. The bias balances the load and must not change the weight of a
    chosen expert, so the weights come from the scores alone, normalised to sum to ``scale``.

    Args:
        x_ND: tokens.
        gate_ED: one row for each expert.
        top_k: K.
        gate: ``softmax`` over the experts (Switch, Mixtral) or ``sigmoid`` of each (DeepSeek-V3).
        expert_bias_E: of loss-free balancing (Wang et al. 2024).
        scale: the sum of a token's weights.
    """
    dtype = torch.promote_types(x_ND.dtype, torch.float32)
    with _without_autocast(x_ND.device.type):
        logits_NE = F.linear(x_ND.to(dtype), gate_ED.to(dtype))
        scores_NE = logits_NE.softmax(dim=-1) if gate == "softmax" else logits_NE.sigmoid()
        if expert_bias_E is None:
            chosen_NK, experts_NK = scores_NE.topk(top_k, dim=-1)
        else:
            experts_NK = (scores_NE.detach() + expert_bias_E.to(dtype)).topk(top_k, dim=-1).indices
            chosen_NK = scores_NE.gather(1, experts_NK)
        weights_NK = chosen_NK / (chosen_NK.sum(dim=-1, keepdim=True) + EPS) * scale
        if gate == "softmax":
            return Routing(experts_NK, weights_NK, scores_NE, logits_NE)
        probabilities_NE = scores_NE / (scores_NE.sum(dim=-1, keepdim=True) + EPS)
        return Routing(experts_NK, weights_NK, probabilities_NE, logits_NE)


def _without_autocast(device: str) -> AbstractContextManager[None]:
    # Entered only where autocast is on, so that an exported graph has no trace of it.
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def tokens_per_expert(experts_NK: Tensor, n_experts: int) -> Tensor:
    """The number of tokens routed to each expert: ``(E,)`` int64, without synchronising with the GPU."""
    each_E = torch.arange(n_experts, device=experts_NK.device, dtype=experts_NK.dtype)
    return (experts_NK.flatten()[:, None] == each_E).sum(dim=0)
