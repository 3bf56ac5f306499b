"""Parts of Hugging Face models read from a folder: no network, no code of others, no pickles, no torchvision."""

# mypy: disable-error-code="no-untyped-call"
# transformers leaves a few of the functions called here without types.

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from clerestory.core.errors import CapabilityError, IntegrityError
from clerestory.models.alignment import align_parameters
from clerestory.models.processor import WHITE
from clerestory.models.runtime import no_bars

T = TypeVar("T")
QUIETLY = {"local_files_only": True, "trust_remote_code": False}


def read_part(folder: Path, what: str, read: Callable[[], T]) -> T:
    """Run one of transformers' loaders; its many errors become one sentence.

    Raises:
        CapabilityError: it would need code that comes with the model, or a package that is not here.
        IntegrityError: a file is missing or broken.
    """
    try:
        with no_bars():
            return read()
    except ImportError as error:
        raise CapabilityError(
            f"the {what} of {folder.name} needs a package that is not installed: {_first_line(error)}",
            "install that package, or use a model that does without",
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if _brings_code(folder):
            raise CapabilityError(
                f"{folder.name} comes with code of its own, and code from a model is never run here",
                "use a model of an architecture that transformers knows",
            ) from error
        raise IntegrityError(
            f"the {what} of {folder.name} cannot be read: {_first_line(error)}", "fetch or copy the model again"
        ) from error


def read_config(folder: Path) -> Any:
    """The model's configuration."""
    return read_part(folder, "configuration", lambda: AutoConfig.from_pretrained(folder, **QUIETLY))


def read_tokenizer(folder: Path) -> Any:
    """The model's tokenizer."""
    return read_part(folder, "tokenizer", lambda: AutoTokenizer.from_pretrained(folder, **QUIETLY))


def read_image_processor(folder: Path) -> Any:
    """The model's image processor in its Pillow version, so that pictures are the same with and without torchvision."""
    return read_part(
        folder, "image processor", lambda: AutoImageProcessor.from_pretrained(folder, backend="pil", **QUIETLY)
    )


def read_processor(folder: Path, config: Any) -> Any:
    """What puts words and pictures together for the model; its image processor in the Pillow version.

    A part for videos is left out: those need torchvision, and no video is ever shown here.
    """

    def read() -> Any:
        kind: Any = PROCESSOR_MAPPING.get(type(config), None)
        if kind is not None and "video_processor" in kind.get_attributes():
            return _without_video(kind).from_pretrained(folder, **QUIETLY)
        return AutoProcessor.from_pretrained(folder, backend="pil", **QUIETLY)

    return read_part(folder, "processor", read)


def _without_video(kind: Any) -> Any:
    """A processor class that is loaded without its part for videos, which transformers has no option for."""

    def arguments(cls: Any, place: Any, *_: Any, **__: Any) -> list[Any]:
        readers = {"image_processor": read_image_processor, "tokenizer": read_tokenizer}
        return [readers[name](Path(place)) if name in readers else None for name in cls.get_attributes()]

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if argument is None else kind.check_argument_for_proper_class(self, name, argument)

    return type(
        kind.__name__,
        (kind,),
        {"_get_arguments_from_pretrained": classmethod(arguments), "check_argument_for_proper_class": check},
    )


def read_network(folder: Path, auto: Any) -> nn.Module:
    """The model's network in evaluation mode, float32 on this CPU, in aligned memory."""

    def read() -> Any:
        return auto.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **QUIETLY)

    network: nn.Module = read_part(folder, "weights", read)
    return align_parameters(network.eval().requires_grad_(False))


def rgb(image: Image.Image) -> Image.Image:
    """An RGB picture; transparency is laid on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*WHITE, 255)), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def count_parameters(network: nn.Module) -> int:
    """Number of distinct parameters."""
    return sum(p.numel() for p in network.parameters())


def first_of(config: Any, names: Sequence[str], default: Any = None) -> Any:
    """The first of some settings that a configuration, or the text part of it, has."""
    for part in (config, getattr(config, "text_config", None)):
        for name in names:
            if (value := getattr(part, name, None)) is not None:
                return value
    return default


def _brings_code(folder: Path) -> bool:
    try:
        return "auto_map" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
