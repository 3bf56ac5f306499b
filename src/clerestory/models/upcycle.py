"""Upcycling of a whole model: a trained dense model with its MLPs replaced by experts, with the same outputs."""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from clerestory.core.errors import ConfigError
from clerestory.models.config import ClerestoryConfig
from clerestory.models.model import ClerestoryModel
from clerestory.models.moe import MixtureOfExperts
from clerestory.models.moe.upcycling import DenseMlp, upcycle


@torch.no_grad()
def upcycle_model(
    model: ClerestoryModel,
    experts: int,
    experts_per_token: int = 2,
    *,
    split: bool = True,
    decoder_experts: int = 0,
    generator: torch.Generator | None = None,
    **changes: Any,
) -> ClerestoryModel:
    """A new model with experts and the outputs of the dense one (to about 1e-6 in fp32).

    Args:
        model: dense throughout; it is not changed.
        experts: number of experts in each block of the image tower; 0 leaves the blocks dense.
        experts_per_token: how many of them a token is routed to.
        split: each expert is a slice of the MLP, at equal cost per token; otherwise each expert is the whole MLP.
        decoder_experts: number of experts in each block of the caption decoder; 0 leaves the blocks dense.
        generator: of the gates' weights.
        changes: other settings of experts, such as ``expert_balance="bias"``.

    Raises:
        ConfigError: the model already has experts, or its MLPs cannot be split into that many experts.
    """
    if model.config.experts or model.config.decoder_experts:
        raise ConfigError("this model already has experts", "upcycle the dense model instead")
    settings = {key: value for key, value in model.config.to_dict().items() if key != "model_type"}
    settings |= {
        "preset": "",
        "experts": experts,
        "experts_per_token": experts_per_token,
        "expert_bias": True,
        "expert_split": split,
        "decoder_experts": decoder_experts,
        **changes,
    }
    sparse = ClerestoryModel(ClerestoryConfig(**settings))
    pairs = zip(_mlps(model), _mlps(sparse), strict=True)
    replaced = [(dense, mixture) for dense, mixture in pairs if isinstance(mixture, MixtureOfExperts)]
    sparse.load_state_dict({**sparse.state_dict(), **_common_weights(model, sparse)})
    for dense, mixture in replaced:
        upcycled = upcycle(
            # Both a block's MLP and the decoder's block have the two layers.
            cast(DenseMlp, dense),
            mixture.num_experts,
            mixture.top_k,
            split=split,
            gate=mixture.gate_kind,
            balance_with_bias=mixture.expert_bias_E is not None,
            generator=generator,
        )
        mixture.load_state_dict(upcycled.state_dict())
    sparse.train(model.training)
    return sparse


def _mlps(model: ClerestoryModel) -> list[nn.Module]:
    """The module with ``up`` and ``down`` of every block, or the mixture in its place, in order."""
    tower = [cast(nn.Module, block.mlp) for block in model.image_tower.blocks]
    decoder = [cast("nn.Module | None", block.mlp) or block for block in model.decoder.blocks]
    return [*tower, *decoder]


def _common_weights(model: ClerestoryModel, sparse: ClerestoryModel) -> dict[str, torch.Tensor]:
    names = sparse.state_dict().keys()
    return {name: tensor for name, tensor in model.state_dict().items() if name in names}
