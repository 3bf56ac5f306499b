"""The vision-language model and its parts, one file per part."""

from clerestory.models.config import ClerestoryConfig
from clerestory.models.model import ClerestoryModel, ClerestoryOutput
from clerestory.models.presets import PRESETS, preset_config
from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor, make_tokenizer
from clerestory.models.protocols import Embedder, Generator, Suggestion
from clerestory.models.runtime import Model, open_model, save_model
from clerestory.models.text_tower import find_text_tower, load_text_tower

__all__ = [
    "PRESETS",
    "ClerestoryConfig",
    "ClerestoryImageProcessor",
    "ClerestoryModel",
    "ClerestoryOutput",
    "ClerestoryProcessor",
    "Embedder",
    "Generator",
    "Model",
    "Suggestion",
    "find_text_tower",
    "load_text_tower",
    "make_tokenizer",
    "open_model",
    "preset_config",
    "save_model",
]
