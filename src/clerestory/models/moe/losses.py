"""Auxiliary losses of a router, which keep it from sending all tokens to a few experts.

Padded tokens are removed before these functions are called: they count neither in a mean nor in a load.

Shape suffixes: N tokens, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clerestory.core.errors import ConfigError
from clerestory.models.moe.routing import Routing


@dataclass(frozen=True)
class LossWeights:
    """Weights of the router's auxiliary losses; 0 leaves a loss out.

    Attributes:
        switch: load-balance loss, load times probability (Switch, GShard); its optimum is 1 for any number of experts.
        z: squared log-sum-exp of the logits (ST-MoE), which keeps them small enough for bf16.
    """

    switch: float = 1.0
    z: float = 0.0

    def __post_init__(self) -> None:
        """Reject negative weights, which would reward imbalance."""
        for name in ("switch", "z"):
            if getattr(self, name) < 0:
                raise ConfigError(f"the weight of the router's {name} loss is negative", "use 0 or a positive weight")


def router_loss(routing: Routing, counts_E: Tensor, weights: LossWeights) -> Tensor:
    """The weighted sum of all losses, a scalar; 0 without tokens."""
    if routing.logits_NE.shape[0] == 0:
        return routing.logits_NE.sum()
    total = routing.logits_NE.new_zeros(())
    if weights.switch:
        total = total + weights.switch * switch_loss(routing.probabilities_NE, counts_E)
    if weights.z:
        total = total + weights.z * z_loss(routing.logits_NE)
    return total


def switch_loss(probabilities_NE: Tensor, counts_E: Tensor) -> Tensor:
    """``E * sum_e share_e * mean_n p[n, e]``: 1 for an even load, up to E for a single expert (Fedus et al. 2021)."""
    share_E = counts_E.to(probabilities_NE.dtype) / counts_E.sum().clamp(min=1)
    return probabilities_NE.shape[1] * (share_E * probabilities_NE.mean(dim=0)).sum()


def z_loss(logits_NE: Tensor) -> Tensor:
    """``mean_n logsumexp(logits[n])²`` (Zoph et al. 2022)."""
    return logits_NE.logsumexp(dim=-1).square().mean()
