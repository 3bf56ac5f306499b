"""LoRA through ``peft``: two small matrices beside every linear layer of what is trained.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from clerestory.core.errors import CapabilityError, MissingExtra

FILES = ("adapter_config.json", "adapter_model.safetensors")


def need_peft() -> Any:
    """The library.

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
    """The linear layers whose weights are trained, the output layer that writes words left out.

    Exactly ``nn.Linear``: the projection inside torch's own attention is a class of its own whose weight is read past
    the layer, where an adapter would be ignored.

    Raises:
        CapabilityError: there is none.
    """
    names = set(trained)
    head = network.get_output_embeddings() if isinstance(network, PreTrainedModel) else None  # type: ignore[no-untyped-call]  # transformers leaves it without types
    found = [
        name
        for name, module in network.named_modules()
        if type(module) is nn.Linear and f"{name}.weight" in names and module is not head
    ]
    if not found:
        raise CapabilityError("it has no linear layers that LoRA could train", "use --method full")
    return found


class Adapter:
    """LoRA matrices in the layers of a network.

    Args:
        network: changed in place; call ``merge`` to have it as it was, with other weights.
        layers: names of linear layers.
        rank: of the matrices.
        alpha: their product is multiplied by ``alpha / rank``.
        seed: of their first values.
        base: reference of the model they belong to.
    """

    def __init__(self, network: nn.Module, layers: list[str], rank: int, alpha: float, seed: int, base: str) -> None:
        peft = need_peft()
        settings = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with warnings.catch_warnings():
                # peft still asks transformers for a property by its former name; nobody here can change that.
                warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
                self._wrapped = peft.get_peft_model(network, settings)
        # peft writes the place the model was read from, which means nothing on another computer.
        self._wrapped.peft_config["default"].base_model_name_or_path = base.removeprefix("hf:")
        self._wrapped.eval()

    def weights(self) -> dict[str, Tensor]:
        """The matrices by name, those that are trained."""
        return {name: p for name, p in self._wrapped.named_parameters() if p.requires_grad}

    def save(self, folder: Path) -> None:
        """Write the adapter in peft's layout."""
        self._wrapped.save_pretrained(folder, safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)  # a template full of gaps

    def merge(self) -> None:
        """Add the matrices into the layers and take them out: the network has its own structure again."""
        self._wrapped.merge_and_unload()


def rescale(folder: Path, share: float) -> None:
    """Make a saved adapter add only a share of its change: the point on the way from the original weights."""
    file = folder / FILES[1]
    tensors = load_file(file)
    save_file({name: t * share if ".lora_B." in name else t for name, t in tensors.items()}, file, {"format": "pt"})
