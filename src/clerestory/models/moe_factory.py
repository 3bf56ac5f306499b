"""The mixture of experts that a model's configuration describes."""

from __future__ import annotations

from clerestory.models.config import ClerestoryConfig
from clerestory.models.moe import LossWeights, MixtureOfExperts


def make_mixture(
    config: ClerestoryConfig, width: int, dense_hidden: int, experts: int, modality: int
) -> MixtureOfExperts:
    """A mixture in place of a dense MLP of hidden width ``dense_hidden``.

    Args:
        config: its settings that begin with ``expert``.
        width: of the Transformer block.
        dense_hidden: hidden width of the replaced MLP.
        experts: number of experts.
        modality: of the tokens, ``IMAGE`` or ``TEXT``.
    """
    mixture = MixtureOfExperts(
        width,
        dense_hidden // config.experts_per_token if config.expert_split else dense_hidden,
        experts,
        config.experts_per_token,
        kind=config.expert_kind,
        bias=config.expert_bias,
        gate=config.expert_gate,
        scale=config.expert_scale,
        shared=config.shared_experts,
        balance_with_bias=config.expert_balance != "loss",
        losses=LossWeights(switch=float(config.expert_balance != "bias"), z=config.expert_z_weight),
    )
    mixture.modality = modality
    return mixture
