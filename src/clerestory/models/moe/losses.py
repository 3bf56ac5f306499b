"""What keeps a router from sending everything to a few experts.

Padded tokens are gone before these functions see a batch: they count neither in a mean nor in a load.

Shape suffixes: N tokens, E experts, K experts per token, M modalities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import ConfigError
from clerestory.models.moe.routing import Routing

IMAGE, TEXT = 0, 1
MODALITIES = ("image", "text")


@dataclass(frozen=True)
class LossWeights:
    """How much each loss of the router counts; 0 leaves it out.

    Attributes:
        switch: load times probability (Switch, GShard); 1 at its best value, whatever the number of experts.
        z: squared log-sum-exp of the logits (ST-MoE), which keeps them small enough for bf16.
        local: entropy of each token's gate (LIMoE), for the modalities of ``local_on``: each token shall be sure.
        spread: how far the entropy of a modality's mean gate stays below ``log(least)`` (LIMoE's global loss): each
            modality shall keep at least ``least`` experts.
        least: experts a modality shall keep.
        local_on: modalities with the local loss. LIMoE found it needed for text, of which there are few tokens.
    """

    switch: float = 1.0
    z: float = 0.0
    local: float = 0.0
    spread: float = 0.0
    least: float = 2.0
    local_on: tuple[int, ...] = (TEXT,)

    def __post_init__(self) -> None:
        """Refuse weights that would reward what they are meant to punish."""
        for name in ("switch", "z", "local", "spread"):
            if getattr(self, name) < 0:
                raise ConfigError(f"the weight of the router's {name} loss must not be below 0")
        if self.least < 1:
            raise ConfigError(f"each modality keeps at least one expert, not {self.least}")


def router_loss(routing: Routing, counts_E: Tensor, modality_N: Tensor | None, weights: LossWeights) -> Tensor:
    """The weighted sum of all losses, a scalar; 0 without tokens. Without modalities all tokens are one."""
    if routing.logits_NE.shape[0] == 0:
        return routing.logits_NE.sum()
    total = routing.logits_NE.new_zeros(())
    if weights.switch:
        total = total + weights.switch * switch_loss(routing.probabilities_NE, counts_E)
    if weights.z:
        total = total + weights.z * z_loss(routing.logits_NE)
    if weights.local or weights.spread:
        local_M, spread_M = entropy_losses(routing.probabilities_NE, modality_N, weights.least)
        wanted = [m for m in weights.local_on if m < len(local_M)] if modality_N is not None else [0]
        total = total + weights.local * local_M[wanted].sum() + weights.spread * spread_M.sum()
    return total


def switch_loss(probabilities_NE: Tensor, counts_E: Tensor) -> Tensor:
    """``E * sum_e share_e * mean_n p[n, e]``: 1 for an even load, up to E for a single expert (Fedus et al. 2021)."""
    share_E = counts_E.to(probabilities_NE.dtype) / counts_E.sum().clamp(min=1)
    return probabilities_NE.shape[1] * (share_E * probabilities_NE.mean(dim=0)).sum()


def z_loss(logits_NE: Tensor) -> Tensor:
    """``mean_n logsumexp(logits[n])²`` (Zoph et al. 2022)."""
    return logits_NE.logsumexp(dim=-1).square().mean()


def entropy(p_NE: Tensor) -> Tensor:
    """Entropy in nats of each row: ``(N,)``; a probability of 0 adds nothing, in the gradient too."""
    return -(p_NE * p_NE.clamp(min=torch.finfo(p_NE.dtype).tiny).log()).sum(dim=-1)


def entropy_losses(probabilities_NE: Tensor, modality_N: Tensor | None, least: float) -> tuple[Tensor, Tensor]:
    """LIMoE's two losses of each modality (Mustafa et al. 2022): ``(M,)`` each, 0 for one without tokens.

    Local: the mean entropy of the tokens' gates. Global: ``max(0, log(least) - H(mean gate))``.

    Args:
        probabilities_NE: the gates of the tokens that count.
        modality_N: which modality each is of (``IMAGE``, ``TEXT``); None: all are of one.
        least: experts each modality shall keep.
    """
    tokens, one = probabilities_NE.shape[0], probabilities_NE.dtype
    if modality_N is None:
        member_NM = probabilities_NE.new_ones(tokens, 1)
    else:
        member_NM = F.one_hot(modality_N, len(MODALITIES)).to(one)
    size_M = member_NM.sum(dim=0)
    there_M = (size_M > 0).to(one)
    share_MN = (member_NM / size_M.clamp(min=1)).t()
    local_M = share_MN @ entropy(probabilities_NE)
    spread_M = F.relu(math.log(least) - entropy(share_MN @ probabilities_NE)) * there_M
    return local_M, spread_M
