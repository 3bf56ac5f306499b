"""The vision-language model and its parts, one file per part.

What needs torch is imported when it is first asked for: whoever only wants to know what a model can do does not wait.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from clerestory.models.config import ClerestoryConfig
    from clerestory.models.model import ClerestoryModel, ClerestoryOutput
    from clerestory.models.presets import PRESETS, preset_config
    from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor, make_tokenizer
    from clerestory.models.resolve import open_reference
    from clerestory.models.runtime import Model, open_model, save_model
    from clerestory.models.text_tower import find_text_tower, load_text_tower

_HEAVY = {
    "PRESETS": "presets",
    "ClerestoryConfig": "config",
    "ClerestoryImageProcessor": "processor",
    "ClerestoryModel": "model",
    "ClerestoryOutput": "model",
    "ClerestoryProcessor": "processor",
    "Model": "runtime",
    "find_text_tower": "text_tower",
    "load_text_tower": "text_tower",
    "make_tokenizer": "processor",
    "open_model": "runtime",
    "open_reference": "resolve",
    "preset_config": "presets",
    "save_model": "runtime",
}

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


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HEAVY[name]}"), name)
