"""What a run begins with: fresh weights of the architecture it asks for, or those of an earlier model."""

from __future__ import annotations

from typing import Any

import torch

from clerestory.core.errors import ConfigError, closest
from clerestory.models.config import ClerestoryConfig
from clerestory.models.model import ClerestoryModel
from clerestory.models.presets import preset_config
from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor
from clerestory.models.runtime import Model
from clerestory.models.upcycled import upcycle_model
from clerestory.stages.train.config import Settings
from clerestory.stages.train.model_overrides import Architecture
from clerestory.stages.train.train_data import Material, caption_tokenizer

OF_EXPERTS = ("experts_per_token", "expert_", "shared_experts")
# What an earlier model can change to and still compute what it computed, and what it needs experts for.
UPCYCLED = ("experts", "decoder_experts", "experts_per_token", "expert_split", "expert_gate")
STEERING = ("expert_balance", "expert_z_weight")


def architecture(settings: Settings, earlier: Model | None) -> ClerestoryConfig:
    """The preset's configuration, or the earlier model's, with the changes made.

    Raises:
        ConfigError: the sizes do not fit together, a setting of experts has no experts to set, or the earlier model
            cannot be changed so without losing what it has learnt.
    """
    wanted = settings.config.model
    changes = wanted.changes() if earlier is None else _new(wanted, earlier.config)
    try:
        if earlier is None:
            config = preset_config(settings.config.preset, **changes)
        else:
            config = ClerestoryConfig(**(_settings(earlier.config) | changes))
    except ValueError as error:
        raise ConfigError(f"the settings of the model do not fit together: {error}", "change one of them") from error
    _check_used(wanted, config)
    return config


def first_model(
    settings: Settings, config: ClerestoryConfig, material: Material, earlier: Model | None
) -> tuple[ClerestoryModel, ClerestoryProcessor]:
    """The model at step 0 and what goes with it.

    Args:
        settings: seed and temperature of the run.
        config: from ``architecture``.
        material: its captions are the decoder's words, and their principal axes the shared space.
        earlier: the model to go on from. It keeps its space and the numbers of its words; new words are added.
    """
    tokenizer = caption_tokenizer(material) if earlier is None else caption_tokenizer(material, _known(earlier))
    torch.manual_seed(settings.config.seed)
    if earlier is None:
        config.vocab_size = len(tokenizer)
        model = ClerestoryModel(config)
        model.projection.lock(material.rotation_EE)
    else:
        random = torch.Generator().manual_seed(settings.config.seed)
        model = _continued(earlier.network, config, len(tokenizer), random)
    model.config.logit_scale = 1.0 / settings.config.temperature
    side = config.image_size
    return model, ClerestoryProcessor(ClerestoryImageProcessor(size={"height": side, "width": side}), tokenizer)


def _new(wanted: Architecture, earlier: ClerestoryConfig) -> dict[str, Any]:
    """The changes that are none to the earlier model left out.

    Raises:
        ConfigError: one of the others would lose what the model has learnt.
    """
    changes = {name: value for name, value in wanted.changes().items() if _plain(getattr(earlier, name)) != value}
    sparse = bool(earlier.experts or earlier.decoder_experts)
    possible = STEERING if sparse else (*UPCYCLED, *STEERING)
    for name in changes:
        unsteered = name == "expert_balance" and sparse and changes[name] == "loss"  # its bias chooses the experts
        if name not in possible or unsteered:
            why = "has experts already" if sparse and name in UPCYCLED else "was trained otherwise"
            raise ConfigError(
                f"model.{name} cannot become {changes[name]}: the model to start from {why}",
                f"leave it out, or start anew; what can change is {', '.join(possible)}",
                closest(name, possible),
            )
    return changes


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _settings(config: ClerestoryConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name != "model_type"}


def _check_used(wanted: Architecture, config: ClerestoryConfig) -> None:
    """Refuse settings of experts for a model that has none: they would be dropped in silence.

    Raises:
        ConfigError: there is such a setting.
    """
    idle = [name for name in wanted.changes() if name.startswith(OF_EXPERTS)]
    if idle and not (config.experts or config.decoder_experts):
        raise ConfigError(
            f"model.{idle[0]} has no effect on a model without experts",
            "set model.experts or model.decoder_experts as well",
        )


def _known(earlier: Model) -> list[str]:
    """The earlier tokenizer's words in the order of their numbers."""
    numbers = earlier.processor.tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


def _continued(
    earlier: ClerestoryModel, config: ClerestoryConfig, words: int, random: torch.Generator
) -> ClerestoryModel:
    """The earlier model with more words, and with experts where they are asked for; what it computed it computes."""
    sparse = earlier.config.experts or earlier.config.decoder_experts
    if sparse or not (config.experts or config.decoder_experts):
        return _loaded(earlier, ClerestoryConfig(**(_settings(config) | {"vocab_size": words})))
    return upcycle_model(
        _loaded(earlier, ClerestoryConfig(**(_settings(earlier.config) | {"vocab_size": words}))),
        config.experts,
        config.experts_per_token,
        split=config.expert_split,
        decoder_experts=config.decoder_experts,
        generator=random,
        expert_gate=config.expert_gate,
        expert_balance=config.expert_balance,
        expert_z_weight=config.expert_z_weight,
    )


@torch.no_grad()
def _loaded(earlier: ClerestoryModel, config: ClerestoryConfig) -> ClerestoryModel:
    """A model of ``config`` with the earlier one's weights; new words get fresh rows, new steering biases are 0."""
    model = ClerestoryModel(config)
    state = model.state_dict()  # shares the model's memory
    for name, tensor in earlier.state_dict().items():
        mine = state[name] if not tensor.ndim else state[name][: len(tensor)]
        mine.copy_(tensor)
    return model
