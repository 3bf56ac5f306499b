"""What a run begins with: the architecture it asks for."""

from __future__ import annotations

from clerestory.core.errors import ConfigError
from clerestory.models.config import ClerestoryConfig
from clerestory.models.presets import preset_config
from clerestory.stages.train.architecture import Architecture

OF_EXPERTS = ("experts_per_token", "expert_", "shared_experts")


def changed(preset: str, wanted: Architecture) -> ClerestoryConfig:
    """The preset's configuration with the changes made.

    Raises:
        ConfigError: the sizes do not fit together, or a setting of experts has no experts to set.
    """
    try:
        config = preset_config(preset, **wanted.changes())
    except ValueError as error:
        raise ConfigError(f"the settings of the model do not fit together: {error}", "change one of them") from error
    check_used(wanted, config)
    return config


def check_used(wanted: Architecture, config: ClerestoryConfig) -> None:
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
