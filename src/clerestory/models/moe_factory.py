"""The mixture of experts a model's configuration asks for."""

from __future__ import annotations

from clerestory.models.config import ClerestoryConfig
from clerestory.models.moe import LossWeights, MixtureOfExperts


def mixture(config: ClerestoryConfig, width: int, dense_hidden: int, experts: int, modality: int) -> MixtureOfExperts:
    """A mixture in place of a dense MLP of ``dense_hidden``.

    Args:
        config: everything that begins with ``expert``.
        width: of the Transformer block.
        dense_hidden: hidden width of the MLP it replaces.
        experts: how many.
        modality: of the tokens that pass it.
    """
    made = MixtureOfExperts(
        width,
        dense_hidden // config.experts_per_token if config.expert_split else dense_hidden,
        experts,
        config.experts_per_token,
        kind=config.expert_kind,
        bias=config.expert_bias,
        gate=config.expert_gate,
        scale=config.expert_scale,
        shared=config.shared_experts,
        steered=config.expert_balance != "loss",
        losses=LossWeights(switch=float(config.expert_balance != "bias"), z=config.expert_z_weight),
    )
    made.modality = modality
    return made
