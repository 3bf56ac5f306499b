"""Named sizes."""

from __future__ import annotations

from typing import Any

from clerestory.core.errors import not_found
from clerestory.models.config import ClerestoryConfig

PRESETS: dict[str, dict[str, Any]] = {
    "nano": {},
    "small": {
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
    """The architecture of a preset, with some settings changed (``vocab_size=…``).

    Raises:
        NotFound: there is no such preset.
    """
    if name not in PRESETS:
        raise not_found("preset", name, PRESETS)
    return ClerestoryConfig(**{"preset": name, **PRESETS[name], **changes})
