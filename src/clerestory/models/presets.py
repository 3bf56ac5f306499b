"""Presets: ``nano`` trains in minutes, ``small`` in hours, ``base`` has experts, ``tiny`` is for tests."""

from __future__ import annotations

from typing import Any

from clerestory.core.errors import not_found
from clerestory.models.config import ClerestoryConfig

PRESETS: dict[str, dict[str, Any]] = {
    "nano": {},
    "tiny": {
        "image_size": 24,
        "stem_channels": (8, 16, 32),
        "stem_residuals": (0, 1, 0),
        "width": 32,
        "layers": 1,
        "heads": 2,
        "mlp_ratio": 2,
        "decoder_width": 32,
        "decoder_layers": 1,
        "decoder_heads": 2,
    },
    "small": {"image_size": 48},
    "base": {
        "image_size": 64,
        "stem_channels": (48, 96, 192, 384),
        "stem_residuals": (1, 1, 1, 1),
        "width": 384,
        "layers": 4,
        "heads": 6,
        "experts": 4,
        "experts_per_token": 2,
        "decoder_width": 256,
        "decoder_layers": 3,
    },
}


def preset_config(name: str, **changes: Any) -> ClerestoryConfig:
    """The configuration of a preset, with some settings overridden (``vocab_size=…``).

    Raises:
        NotFound: there is no such preset.
    """
    if name not in PRESETS:
        raise not_found("preset", name, PRESETS)
    return ClerestoryConfig(**{"preset": name, **PRESETS[name], **changes})
