"""The vision-language model and its parts, one file per part."""

from clerestory.models.config import ClerestoryConfig
from clerestory.models.model import ClerestoryModel, ClerestoryOutput
from clerestory.models.opening import open_reference
from clerestory.models.presets import PRESETS, preset_config
from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor, make_tokenizer
from clerestory.models.protocols import (
    AnyModel,
    Describer,
    Embedder,
    Generator,
    Reply,
    Request,
    Scorer,
    Suggestion,
    capabilities,
    need,
)
from clerestory.models.runtime import Model, open_model, save_model
from clerestory.models.text_tower import find_text_tower, load_text_tower

__all__ = [
    "PRESETS",
    "AnyModel",
    "ClerestoryConfig",
    "ClerestoryImageProcessor",
    "ClerestoryModel",
    "ClerestoryOutput",
    "ClerestoryProcessor",
    "Describer",
    "Embedder",
    "Generator",
    "Model",
    "Reply",
    "Request",
    "Scorer",
    "Suggestion",
    "capabilities",
    "find_text_tower",
    "load_text_tower",
    "make_tokenizer",
    "need",
    "open_model",
    "open_reference",
    "preset_config",
    "save_model",
]
