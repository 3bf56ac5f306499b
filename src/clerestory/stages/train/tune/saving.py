"""Writes a tuned model as a folder that opens like the original."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from clerestory.core.errors import NotFound
from clerestory.core.outputs import output_folder
from clerestory.models.adapters.files import MODEL_FILES
from clerestory.models.adapters.hf_chat import ChatModel
from clerestory.models.adapters.hf_dual import DualEncoder
from clerestory.models.loading import quiet_transformers
from clerestory.models.runtime import ClerestoryEncoder, save_model
from clerestory.store import Store

# Files that are written with the new weights, or describe the old ones.
_REPLACED = ("config.json", "generation_config.json", "adapter_config.json")


def source_folder(model: DualEncoder | ChatModel) -> Path:
    """The folder from which a Hugging Face model was loaded.

    Raises:
        NotFound: it no longer exists.
    """
    folder = Path(model.network.name_or_path)
    if not (folder / "config.json").is_file():
        raise NotFound(
            f"{folder}, from which {model.name} was loaded, no longer exists", "restore it, or open the model again"
        )
    return folder


def write_model(model: Any, folder: Path) -> Path:
    """Write network and configuration; copy tokenizer and processor unchanged from the original."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if isinstance(model, ClerestoryEncoder):
        return save_model(model.network, model.processor, folder)
    source = source_folder(model)
    for pattern in MODEL_FILES:
        for path in sorted(source.glob(pattern)):
            if path.suffix != ".safetensors" and path.name not in _REPLACED and not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)
    with quiet_transformers():
        model.network.save_pretrained(folder)
    return folder


def write_target(folder: Path, store: Store, model: str, adapter: dict[str, str]) -> None:
    """Copy a result out of the store: the model's files, and its adapter in the subfolder ``adapter``.

    Without a merged model the adapter's files are in the folder itself.

    Raises:
        InputError: the folder exists and is not empty, or cannot be written.
    """
    with output_folder(folder) as temporary:
        if model:
            shutil.copytree(store.model_folder(model), temporary, dirs_exist_ok=True)
        adapter_folder = temporary / "adapter" if model else temporary
        for name, blob in adapter.items():
            adapter_folder.mkdir(exist_ok=True)
            (adapter_folder / name).write_bytes(store.blobs.get(blob))
