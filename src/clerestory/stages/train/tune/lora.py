"""LoRA through ``peft``: two low-rank matrices beside every trained linear layer.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from clerestory.core.errors import CapabilityError, MissingExtra
from clerestory.models.loading import load_tensors, quiet_transformers

FILES = ("adapter_config.json", "adapter_model.safetensors")


def require_peft() -> Any:
    """Import peft.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtra(
            "LoRA needs the package peft, which is not installed", "pip install 'clerestory[tune]'"
        ) from error
    return peft


def linear_layers(network: nn.Module, trained: Iterable[str]) -> list[str]:
    """The linear layers whose weights are trained, except the output layer of a language model.

    Only ``nn.Linear`` itself: torch's attention reads the weight of its projection, a subclass, without calling the
    layer, so an adapter there would have no effect.

    Raises:
        CapabilityError: there are none.
    """
    names = set(trained)
    head = network.get_output_embeddings() if isinstance(network, PreTrainedModel) else None  # type: ignore[no-untyped-call]  # transformers leaves it without types
    layers = [
        name
        for name, module in network.named_modules()
        if type(module) is nn.Linear and f"{name}.weight" in names and module is not head
    ]
    if not layers:
        raise CapabilityError("the model has no linear layers for LoRA to train", "use --method full")
    return layers


class LoraAdapter:
    """LoRA matrices in the layers of a network.

    Args:
        network: changed in place; ``merge`` restores its structure, with the trained weights.
        layers: names of linear layers.
        rank: of the matrices.
        alpha: their product is multiplied by ``alpha / rank``.
        seed: of their initial values.
        base: reference of the original model.
    """

    def __init__(self, network: nn.Module, layers: list[str], rank: int, alpha: float, seed: int, base: str) -> None:
        peft = require_peft()
        settings = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with quiet_transformers():
                self._wrapped = peft.get_peft_model(network, settings)
        # peft would write the local path of the model, which is meaningless on another computer.
        self._wrapped.peft_config["default"].base_model_name_or_path = base.removeprefix("hf:")
        self._wrapped.eval()

    def weights(self) -> dict[str, Tensor]:
        """The trained matrices by name."""
        return {name: p for name, p in self._wrapped.named_parameters() if p.requires_grad}

    def save(self, folder: Path) -> None:
        """Write the adapter in peft's layout; equal adapters give equal files."""
        with quiet_transformers():
            # Without embeddings: to decide by itself, peft would ask the hub for the configuration of the base model.
            self._wrapped.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # an unfilled template
        file = folder / FILES[0]
        settings = json.loads(file.read_text(encoding="utf-8"))
        # peft keeps the names in a set, whose order differs from process to process.
        ordered = {name: sorted(value) if name == "target_modules" else value for name, value in settings.items()}
        file.write_text(json.dumps(ordered, indent=2, sort_keys=True), encoding="utf-8")

    def merge(self) -> None:
        """Add the matrices to the layers' weights and remove them, which restores the original structure."""
        with quiet_transformers():
            self._wrapped.merge_and_unload()


def scale_adapter(folder: Path, alpha: float) -> None:
    """Scale a saved adapter, so that it gives the weights interpolated with ``alpha``."""
    file = folder / FILES[1]
    tensors, _ = load_tensors(file)
    save_file({name: t * alpha if ".lora_B." in name else t for name, t in tensors.items()}, file, {"format": "pt"})
