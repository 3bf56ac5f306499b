"""A trained dense model with experts in place of its MLPs, computing what it computed before."""

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
from clerestory.models.moe.upcycling import Dense, upcycle


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
    """A new model with experts, whose outputs are the dense one's (to about 1e-6 in fp32).

    Args:
        model: dense throughout; it stays as it is.
        experts: of each block of the image tower; 0 leaves that dense.
        experts_per_token: how many of them a token visits.
        split: equal cost for a token, each expert a slice of the MLP; otherwise each expert is the whole of it.
        decoder_experts: of each block of the caption decoder; 0 leaves that dense.
        generator: of the gates' weights.
        changes: other settings of experts, such as ``expert_balance="bias"``.

    Raises:
        ConfigError: the model has experts already, or its MLPs cannot be split so.
    """
    if model.config.experts or model.config.decoder_experts:
        raise ConfigError("this model has experts already", "upcycle the dense one it came from")
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
    made = ClerestoryModel(ClerestoryConfig(**settings))
    pairs = zip(_mlps(model), _mlps(made), strict=True)
    mixed = [(dense, mixture) for dense, mixture in pairs if isinstance(mixture, MixtureOfExperts)]
    made.load_state_dict({**made.state_dict(), **_shared(model, made)})
    for dense, mixture in mixed:
        wanted = upcycle(
            # A block's MLP and the decoder's block both have the two layers.
            cast(Dense, dense),
            mixture.num_experts,
            mixture.top_k,
            split=split,
            gate=mixture.gate_kind,
            steered=mixture.bias_E is not None,
            generator=generator,
        )
        mixture.load_state_dict(wanted.state_dict())
    made.train(model.training)
    return made


def _mlps(model: ClerestoryModel) -> list[nn.Module]:
    """What holds ``up`` and ``down``, or the mixture in its place, of every block in order."""
    blocks = [cast(nn.Module, block.mlp) for block in model.image_tower.blocks]
    words = [cast("nn.Module | None", block.mlp) or block for block in model.decoder.blocks]
    return [*blocks, *words]


def _shared(model: ClerestoryModel, made: ClerestoryModel) -> dict[str, torch.Tensor]:
    wanted = made.state_dict()
    return {name: tensor for name, tensor in model.state_dict().items() if name in wanted}
