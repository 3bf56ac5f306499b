"""The initial model of a run: fresh weights of the configured architecture, or those of an earlier model."""

from __future__ import annotations

from typing import Any

import torch

from clerestory.core.errors import ConfigError, closest
from clerestory.models.config import ClerestoryConfig
from clerestory.models.model import ClerestoryModel
from clerestory.models.presets import preset_config
from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor
from clerestory.models.runtime import ClerestoryEncoder
from clerestory.models.upcycle import upcycle_model
from clerestory.stages.train.config import ResolvedConfig
from clerestory.stages.train.model_overrides import ModelOverrides
from clerestory.stages.train.train_data import TrainData, caption_tokenizer

EXPERT_SETTINGS = ("experts_per_token", "expert_", "shared_experts")
# Changes that preserve the function of an earlier model, and those that need experts.
UPCYCLED = ("experts", "decoder_experts", "experts_per_token", "expert_split", "expert_gate")
BALANCING = ("expert_balance", "expert_z_weight")


def model_config(settings: ResolvedConfig, earlier: ClerestoryEncoder | None) -> ClerestoryConfig:
    """The preset's configuration, or the earlier model's, with the overrides of the run.

    Raises:
        ConfigError: the sizes are inconsistent, an expert setting is given for a model without experts, or a change
            would not preserve what the earlier model has learned.
    """
    overrides = settings.config.model
    changes = overrides.changes() if earlier is None else _new_changes(overrides, earlier.config)
    try:
        if earlier is None:
            config = preset_config(settings.config.preset, **changes)
        else:
            config = ClerestoryConfig(**(_settings(earlier.config) | changes))
    except ValueError as error:
        raise ConfigError(f"the model settings are inconsistent: {error}", "change one of them") from error
    _check_used(overrides, config)
    return config


def init_model(
    settings: ResolvedConfig, config: ClerestoryConfig, train_data: TrainData, earlier: ClerestoryEncoder | None
) -> tuple[ClerestoryModel, ClerestoryProcessor]:
    """The model at step 0 and its processor.

    Args:
        settings: seed and temperature of the run.
        config: from ``model_config``.
        train_data: the words of its captions are the decoder's vocabulary, their principal axes the shared space.
        earlier: the model to continue from. It keeps its embedding space and its token ids; new words are added.
    """
    tokenizer = (
        caption_tokenizer(train_data) if earlier is None else caption_tokenizer(train_data, _vocabulary(earlier))
    )
    torch.manual_seed(settings.config.seed)
    if earlier is None:
        config.vocab_size = len(tokenizer)
        model = ClerestoryModel(config)
        model.projection.set_rotation(train_data.rotation_EE)
    else:
        generator = torch.Generator().manual_seed(settings.config.seed)
        model = _continued(earlier.network, config, len(tokenizer), generator)
    model.config.logit_scale = 1.0 / settings.config.temperature
    side = config.image_size
    return model, ClerestoryProcessor(ClerestoryImageProcessor(size={"height": side, "width": side}), tokenizer)


def _new_changes(overrides: ModelOverrides, earlier: ClerestoryConfig) -> dict[str, Any]:
    """The overrides that differ from the earlier model.

    Raises:
        ConfigError: one of them would not preserve what the model has learned.
    """
    changes = {name: value for name, value in overrides.changes().items() if _as_tuple(getattr(earlier, name)) != value}
    sparse = bool(earlier.experts or earlier.decoder_experts)
    possible = BALANCING if sparse else (*UPCYCLED, *BALANCING)
    for name in changes:
        unbalanced = name == "expert_balance" and sparse and changes[name] == "loss"  # its routing depends on the bias
        if name not in possible or unbalanced:
            why = "has experts already" if sparse and name in UPCYCLED else "was trained with another value"
            raise ConfigError(
                f"model.{name} cannot become {changes[name]}: the model to start from {why}",
                f"remove it, or start from fresh weights; only {', '.join(possible)} can change",
                closest(name, possible),
            )
    return changes


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _settings(config: ClerestoryConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name != "model_type"}


def _check_used(overrides: ModelOverrides, config: ClerestoryConfig) -> None:
    """Refuse expert settings for a model without experts: they would be ignored silently.

    Raises:
        ConfigError: there is such a setting.
    """
    idle = [name for name in overrides.changes() if name.startswith(EXPERT_SETTINGS)]
    if idle and not (config.experts or config.decoder_experts):
        raise ConfigError(
            f"model.{idle[0]} has no effect on a model without experts",
            "set model.experts or model.decoder_experts as well",
        )


def _vocabulary(earlier: ClerestoryEncoder) -> list[str]:
    """The earlier tokenizer's vocabulary in the order of its ids."""
    ids = earlier.processor.tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _continued(
    earlier: ClerestoryModel, config: ClerestoryConfig, vocab_size: int, generator: torch.Generator
) -> ClerestoryModel:
    """The earlier model with a larger vocabulary and, if configured, with experts; it computes the same function."""
    sparse = earlier.config.experts or earlier.config.decoder_experts
    if sparse or not (config.experts or config.decoder_experts):
        return _loaded(earlier, ClerestoryConfig(**(_settings(config) | {"vocab_size": vocab_size})))
    return upcycle_model(
        _loaded(earlier, ClerestoryConfig(**(_settings(earlier.config) | {"vocab_size": vocab_size}))),
        config.experts,
        config.experts_per_token,
        split=config.expert_split,
        decoder_experts=config.decoder_experts,
        generator=generator,
        expert_gate=config.expert_gate,
        expert_balance=config.expert_balance,
        expert_z_weight=config.expert_z_weight,
    )


@torch.no_grad()
def _loaded(earlier: ClerestoryModel, config: ClerestoryConfig) -> ClerestoryModel:
    """A model of ``config`` with the earlier one's weights; new words get fresh rows, new balancing biases are 0."""
    model = ClerestoryModel(config)
    state = model.state_dict()  # shares the model's memory
    for name, tensor in earlier.state_dict().items():
        target = state[name] if not tensor.ndim else state[name][: len(tensor)]
        target.copy_(tensor)
    return model
