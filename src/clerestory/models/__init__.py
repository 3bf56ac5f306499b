"""The vision-language model, one module for each component, and the adapters to other models.

Modules that need torch are imported on first use, so that reading the protocols is fast.
"""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports
from clerestory.models.protocols import (
    AnyModel,
    CaptionCandidate,
    Captioner,
    Embedder,
    GenerationRequest,
    Generator,
    Reply,
    Scorer,
    capabilities,
    require_capability,
)

if TYPE_CHECKING:
    from clerestory.models.config import ClerestoryConfig
    from clerestory.models.model import ClerestoryModel, ClerestoryOutput
    from clerestory.models.presets import PRESETS, preset_config
    from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor, make_tokenizer
    from clerestory.models.resolve import open_reference
    from clerestory.models.runtime import ClerestoryEncoder, open_model, save_model
    from clerestory.models.text_tower import load_text_tower
    from clerestory.models.text_tower_files import find_text_tower

__all__ = [
    "PRESETS",
    "AnyModel",
    "CaptionCandidate",
    "Captioner",
    "ClerestoryConfig",
    "ClerestoryEncoder",
    "ClerestoryImageProcessor",
    "ClerestoryModel",
    "ClerestoryOutput",
    "ClerestoryProcessor",
    "Embedder",
    "GenerationRequest",
    "Generator",
    "Reply",
    "Scorer",
    "capabilities",
    "find_text_tower",
    "load_text_tower",
    "make_tokenizer",
    "open_model",
    "open_reference",
    "preset_config",
    "require_capability",
    "save_model",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "PRESETS": ".presets",
        "ClerestoryConfig": ".config",
        "ClerestoryEncoder": ".runtime",
        "ClerestoryImageProcessor": ".processor",
        "ClerestoryModel": ".model",
        "ClerestoryOutput": ".model",
        "ClerestoryProcessor": ".processor",
        "find_text_tower": ".text_tower_files",
        "load_text_tower": ".text_tower",
        "make_tokenizer": ".processor",
        "open_model": ".runtime",
        "open_reference": ".resolve",
        "preset_config": ".presets",
        "save_model": ".runtime",
    },
)
