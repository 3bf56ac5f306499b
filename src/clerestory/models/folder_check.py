"""What is checked about a model folder before any library reads it.

Settings that would make transformers run code, download something or read another file are refused here, whatever the
architecture; so are settings that are not JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clerestory.core.errors import CapabilityError, IntegrityError, NotFound
from clerestory.core.files import PICKLE_SUFFIXES

CONFIG = "config.json"
OWN_TYPE = "clerestory"  # the type of models that Clerestory trained
HEAD_TYPE = "clerestory-head"  # of a dual encoder with a head fitted by the user
PHOTO_TYPE = "clerestory-photo"  # of the photo encoder, with or without a head fitted by the user
MINILM_DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of the frozen text tower
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
DOWNLOAD_AGAIN = "download or copy the model again"

_INDEX_SUFFIX = ".safetensors.index.json"
_ADAPTER = "adapter_config.json"
# Vocabularies: large, and without settings.
_WITHOUT_SETTINGS = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
# These must be readable; other JSON files beside a model may have any content.
_READ_BY_TRANSFORMERS = (
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
)
# With the name of a repository, transformers downloads compiled code from there.
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
MAX_LAYERS = 1_000
MAX_SIZE = 2_000_000
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "image_size", "embed_dim", "projection_dim")


def display_name(folder: Path) -> str:
    """A model folder's name for messages: ``org/name`` in the cache of the hub, otherwise its last part."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    name = folder.name or folder.resolve().name
    return name[:12] if len(name) == 64 else name  # a digest in the store


def check_folder(folder: Path) -> dict[str, Any]:
    """Check a model folder without reading its weights.

    Returns:
        Its configuration, the content of ``config.json``.

    Raises:
        NotFound: the folder does not exist.
        IntegrityError: it has no configuration or no weights, or a settings file is unreadable.
        CapabilityError: it needs code or files from elsewhere, its weights are pickles, or it is an adapter.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no model folder {folder}", "name the folder that contains config.json")
    if (folder / _ADAPTER).is_file():
        raise CapabilityError(
            f"{folder} contains an adapter (LoRA), which is not a complete model",
            "merge the adapter into its model first, and name the folder of the merged model",
        )
    if not (folder / CONFIG).is_file():
        raise IntegrityError(f"{folder / CONFIG} is missing", "name the folder of a model in Hugging Face's layout")
    for file in sorted(folder.glob("*.json")):
        if file.name.endswith(_INDEX_SUFFIX):
            _check_index(file)
        elif file.name not in _WITHOUT_SETTINGS:
            _check_settings(folder, file)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    _check_values(folder / CONFIG, config)
    _check_weights(folder, config)
    return config


def has_custom_code(config: Any) -> bool:
    """Whether settings refer to code that comes with a model."""
    return any(key == "auto_map" for key, _ in _items(config))


def _check_settings(folder: Path, file: Path) -> None:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if file.name not in _READ_BY_TRANSFORMERS:
            return
        raise IntegrityError(f"{file} cannot be read as JSON: {_reason(error)}", DOWNLOAD_AGAIN) from error
    if file.name in _READ_BY_TRANSFORMERS and not isinstance(settings, dict):
        raise IntegrityError(f"{file} does not contain settings by name", DOWNLOAD_AGAIN)
    if has_custom_code(settings):
        raise CapabilityError(
            f"{display_name(folder)} needs custom code (auto_map in {file.name}), and code that comes with a model is "
            "never run",
            "use a model whose architecture is part of transformers; if this one is, remove auto_map from the file",
        )
    for key, value in _items(settings):
        if key in _KERNELS and "/" in json.dumps(value):
            raise CapabilityError(
                f"{display_name(folder)} needs downloaded code ({key} in {file.name}), which is never run",
                f"remove {key} from the file",
            )


def _check_values(file: Path, config: dict[str, Any]) -> None:
    """Check the values that routing needs, and sizes with which building the network would take hours or all memory."""
    model_type, architectures = config.get("model_type", ""), config.get("architectures") or []
    if not isinstance(model_type, str):
        raise IntegrityError(f"model_type in {file} is {model_type!r}, not a name", DOWNLOAD_AGAIN)
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise IntegrityError(f"architectures in {file} is {architectures!r}, not a list of names", DOWNLOAD_AGAIN)
    for key, value in _items(config):
        limit = MAX_LAYERS if key.endswith("layers") or key == "depth" else MAX_SIZE if key in _SIZES else None
        if limit and isinstance(value, int) and value > limit:
            raise IntegrityError(f"{key} in {file} is {value}, above the maximum of {limit:,}", DOWNLOAD_AGAIN)


def _items(settings: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, of nested settings too."""
    remaining = [settings]
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict):
            yield from value.items()
            remaining.extend(value.values())
        elif isinstance(value, list):
            remaining.extend(value)


def _check_index(file: Path) -> None:
    """Check that the weights are safetensors files of this folder."""
    try:
        names = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{file} cannot be read as an index of weights", DOWNLOAD_AGAIN) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise IntegrityError(
                f"{file} names {name!r}, which is not a safetensors file of the folder", DOWNLOAD_AGAIN
            )
        if not (file.parent / name).is_file():
            raise IntegrityError(f"{file.parent / name} is missing", DOWNLOAD_AGAIN)


def _check_weights(folder: Path, config: dict[str, Any]) -> None:
    named = config.get("transformers_weights")
    names = WEIGHTS if named is None else (str(named),)
    if any((folder / name).is_file() and Path(name).name == name for name in names):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CapabilityError(
            f"the weights of {folder} are in {pickles[0]}, a format that can run code when it is read",
            "use a version of the model with safetensors weights, or convert it on an isolated computer",
        )
    raise IntegrityError(f"{folder} has no weights ({names[0]})", DOWNLOAD_AGAIN)


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:160]
