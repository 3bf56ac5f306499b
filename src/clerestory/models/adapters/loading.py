"""Components of other people's models read from a folder, without torchvision; see ``models.loading``."""

# mypy: disable-error-code="no-untyped-call"
# transformers leaves a few of the functions called here without types.

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from clerestory.models.loading import load_component, load_network
from clerestory.models.pixels import WHITE, to_rgb

MAX_ASPECT_RATIO = 100


def load_config(folder: Path) -> Any:
    """The model's configuration."""
    return load_component(AutoConfig, folder, "configuration")


def load_tokenizer(folder: Path) -> Any:
    """The model's tokenizer."""
    return load_component(AutoTokenizer, folder, "tokenizer")


def load_image_processor(folder: Path) -> Any:
    """The model's image processor in its Pillow version, whose pixels do not depend on torchvision."""
    return load_component(AutoImageProcessor, folder, "image processor", backend="pil")


def load_processor(folder: Path, config: Any) -> Any:
    """The model's processor of text and images, with the Pillow version of its image processor.

    A video processor is left out: it needs torchvision, and the model gets no videos here.
    """
    kind: Any = PROCESSOR_MAPPING.get(type(config), None)
    if kind is not None and "video_processor" in kind.get_attributes():
        return load_component(_without_video(kind), folder, "processor")
    return load_component(AutoProcessor, folder, "processor", backend="pil")


def _without_video(kind: Any) -> Any:
    """A processor class that is loaded without its video processor, for which transformers has no option."""

    def arguments(cls: Any, folder: Any, *_: Any, **__: Any) -> list[Any]:
        loaders = {"image_processor": load_image_processor, "tokenizer": load_tokenizer}
        return [loaders[name](Path(folder)) if name in loaders else None for name in cls.get_attributes()]

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if argument is None else kind.check_argument_for_proper_class(self, name, argument)

    return type(
        kind.__name__,
        (kind,),
        {"_get_arguments_from_pretrained": classmethod(arguments), "check_argument_for_proper_class": check},
    )


def load_frozen_network(folder: Path, loader: Any) -> nn.Module:
    """The model's network, float32 on this CPU, without gradients."""
    return load_network(loader, folder, dtype=torch.float32).requires_grad_(False)


def model_input(image: Image.Image) -> Image.Image:
    """An RGB image as other people's processors get it: transparency on white, no extreme strip.

    Many processors scale the shorter side to a fixed length, so a strip of 1 × 30,000 pixels would become one of
    224 × 6,720,000, and some refuse more than 200:1. A strip longer than ``MAX_ASPECT_RATIO`` gets white margins.
    """
    image = to_rgb(image)
    thinnest = -(-max(image.size) // MAX_ASPECT_RATIO)
    if min(image.size) >= thinnest:
        return image
    padded = Image.new("RGB", (max(image.width, thinnest), max(image.height, thinnest)), WHITE)
    padded.paste(image, ((padded.width - image.width) // 2, (padded.height - image.height) // 2))
    return padded


def count_parameters(network: nn.Module) -> int:
    """Number of distinct parameters."""
    return sum(p.numel() for p in network.parameters())
