"""The only module that reads pretrained models: every ``from_pretrained`` of the package is called here.

Guarantees of every load:

- local files only; nothing is downloaded, and transformers never prompts;
- code that comes with a model is never run, and weights are read from safetensors only;
- no tensor is missing, unexpected or of another shape, and every value is finite;
- the weights lie in aligned memory, so that a loaded model computes the same bits as the saved one;
- a failure is one sentence instead of one of transformers' many errors.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging

from clerestory.core.errors import CapabilityError, ClerestoryError, IntegrityError
from clerestory.models.alignment import align_parameters

T = TypeVar("T")
SAFE_LOADING = {"local_files_only": True, "trust_remote_code": False}
DOWNLOAD_AGAIN = "download or copy the model again"
MAX_NAMES = 3  # of tensors, in a message


def load_component(loader: Any, folder: Path, component: str, **settings: Any) -> Any:
    """A configuration, tokenizer or processor of a model folder.

    Args:
        loader: a class of transformers, with ``from_pretrained``.
        folder: of the model.
        component: what is read, for messages.
        settings: of ``from_pretrained``.

    Raises:
        CapabilityError: it needs code that comes with the model, or a package that is not installed.
        IntegrityError: a file is missing or broken.
    """
    return translate_load_errors(folder, component, lambda: loader.from_pretrained(folder, **SAFE_LOADING, **settings))


def load_network(loader: Any, folder: Path, unused: Collection[str] = (), **settings: Any) -> nn.Module:
    """The network of a model folder in evaluation mode, with all guarantees of this module.

    Args:
        loader: a model class of transformers, with ``from_pretrained``.
        folder: of the model.
        unused: prefixes of tensors that the folder has and the network does not need.
        settings: of ``from_pretrained``.

    Raises:
        CapabilityError: it needs code that comes with the model, or a package that is not installed.
        IntegrityError: a file is missing or broken, or the weights do not fit the network or are not finite.
    """

    def read() -> tuple[nn.Module, dict[str, Any]]:
        loaded: tuple[nn.Module, dict[str, Any]] = loader.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **SAFE_LOADING, **settings
        )
        return loaded

    network, info = translate_load_errors(folder, "weights", read)
    _check_names(folder, "lack", info["missing_keys"])
    _check_names(folder, "have unexpected", {n for n in info["unexpected_keys"] if not n.startswith(tuple(unused))})
    _check_finite(folder, network)
    return align_parameters(network.eval())


def translate_load_errors(folder: Path, component: str, read: Callable[[], T]) -> T:
    """Run ``read`` without output; an error of transformers becomes one sentence.

    Raises:
        CapabilityError: it needs code that comes with the model, or a package that is not installed.
        IntegrityError: a file is missing or broken.
    """
    try:
        with quiet_transformers():
            return read()
    except ClerestoryError:
        raise
    except ImportError as error:
        raise CapabilityError(
            f"the {component} of {folder.name} needs a package that is not installed: {_first_line(error)}",
            "install that package, or use a model that does not need it",
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if _has_custom_code(folder):
            raise CapabilityError(
                f"{folder.name} needs custom code, and code that comes with a model is never run",
                "use a model whose architecture is part of transformers",
            ) from error
        message = f"the {component} of {folder.name} cannot be read: {_first_line(error)}"
        raise IntegrityError(message, DOWNLOAD_AGAIN) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress progress bars and load reports of transformers."""
    had_progress_bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_progress_bar:
            logging.enable_progress_bar()


def _check_names(folder: Path, verb: str, names: Collection[str]) -> None:
    if names:
        examples = ", ".join(sorted(names)[:MAX_NAMES]) + (" …" if len(names) > MAX_NAMES else "")
        count = f"{len(names)} tensor{'s' if len(names) != 1 else ''}"
        raise IntegrityError(f"the weights of {folder.name} {verb} {count}: {examples}", DOWNLOAD_AGAIN)


@torch.no_grad()
def _check_finite(folder: Path, network: nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IntegrityError(f"the weights of {folder.name} are not finite: {name}", DOWNLOAD_AGAIN)


def _has_custom_code(folder: Path) -> bool:
    try:
        return "auto_map" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
