"""The only module that reads pretrained models with torch: every ``from_pretrained`` and safetensors file.

Two parts work without torch: ``word_pieces`` reads tokenizers, ``onnx.encoder`` what Clerestory itself has exported.

Guarantees of every load:

- local files only; nothing is downloaded, and transformers never prompts;
- code that comes with a model is never run, and weights are read from safetensors only (see ``folder_check``), except
  for one package's file that is pinned by its digest;
- no tensor is missing, unexpected or of another shape, and every value is finite;
- the weights lie in aligned memory, so that a loaded model computes the same bits as the saved one;
- a failure is one sentence instead of one of transformers' many errors, and nothing is printed.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from clerestory.core.digest import digest_file
from clerestory.core.errors import CapabilityError, ClerestoryError, IntegrityError
from clerestory.core.units import plural
from clerestory.models.alignment import align_parameters, aligned
from clerestory.models.folder_check import DOWNLOAD_AGAIN, check_folder, display_name
from clerestory.models.word_pieces import first_sentence

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)
SINGLE_FILE = "model.safetensors"
SAFE_LOADING = {"local_files_only": True, "trust_remote_code": False}
MAX_NAMES = 3  # of tensors, in a message

# The files that transformers can read a component from; without any of them its own message is misleading.
_SOURCES = {
    "tokenizer": ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "*.model"),
    "image processor": ("preprocessor_config.json", "processor_config.json"),
    "processor": ("preprocessor_config.json", "processor_config.json"),
}


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
    sources = _SOURCES.get(component)
    if sources and not any(path for name in sources for path in folder.glob(name)):
        raise IntegrityError(f"{display_name(folder)} has no {component} ({sources[0]} is missing)", DOWNLOAD_AGAIN)
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
            folder,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below, with their names
            **SAFE_LOADING,
            **settings,
        )
        return loaded

    network, info = translate_load_errors(folder, "weights", read)
    _refuse_misfits(
        folder,
        {name: (saved, ours) for name, saved, ours in info["mismatched_keys"]},
        _without_constants(network, info["missing_keys"]),
        {name for name in info["unexpected_keys"] if not name.startswith(tuple(unused))},
    )
    _refuse(folder, "have values that are not finite in", _not_finite(network.state_dict().items()))
    return align_parameters(network.eval())


def load_weights(
    network: Network, folder: Path, unused: Collection[str] = (), names: Mapping[str, str] | None = None
) -> Network:
    """Load the weights of a model folder into a network of our own, frozen and in evaluation mode.

    The guarantees are those of ``load_network``.

    Args:
        network: its weights need no values yet; see ``models.uninitialised``.
        folder: of the model.
        unused: prefixes of tensors that the folder has and the network does not need.
        names: the names of tensors in the network, by those in the file; the same by default.

    Raises:
        IntegrityError: a file is missing or broken, or the weights do not fit the network or are not finite.
    """
    names = names or {}
    file = folder / str(check_folder(folder).get("transformers_weights", SINGLE_FILE))
    tensors = _translate_errors(folder, "weights", lambda: _read_tensors(file)[0])
    stored_names = {own: stored for stored, own in names.items()}
    own_shapes = {stored_names.get(own, own): tensor.shape for own, tensor in network.state_dict().items()}
    used = {name: tensors[name] for name in own_shapes if name in tensors}
    misfits = {n: (t.shape, own_shapes[n]) for n, t in used.items() if t.shape != own_shapes[n]}
    unexpected = {name for name in tensors.keys() - used.keys() if not name.startswith(tuple(unused))}
    _refuse_misfits(folder, misfits, own_shapes.keys() - used.keys(), unexpected)
    _refuse(folder, "have values that are not finite in", _not_finite(used.items()))
    network.load_state_dict({names.get(n, n): tensor.float() for n, tensor in used.items()}, assign=True)
    return align_parameters(network.requires_grad_(False).eval())


def load_tensors(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file by name, in aligned memory, and the file's metadata.

    Args:
        file: the file.
        prefix: only tensors with this beginning of their names are read.

    Raises:
        FileNotFoundError: there is no such file.
        IntegrityError: it is truncated or damaged.
    """
    try:
        return _read_tensors(file, prefix)
    except SafetensorError as error:
        raise IntegrityError(f"{file} is damaged: {first_sentence(error)}", "restore the file from a copy") from error


def load_pinned_weights(file: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a pickle by name: the only kind of file that is not safetensors, so only one exact file is read.

    Args:
        file: as ``torch.save`` wrote it.
        sha256: its digest, which is checked before it is read.

    Raises:
        IntegrityError: it is another file.
    """
    if (actual := digest_file(file)) != sha256:
        raise IntegrityError(
            f"{file} is not the original file: its SHA-256 is {actual[:12]}…, not {sha256[:12]}…", "install it again"
        )
    weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return weights


def _read_tensors(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(file, framework="pt") as opened:
        names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118  # not a mapping
        return {name: aligned(opened.get_tensor(name)) for name in names}, dict(opened.metadata() or {})


def translate_load_errors(folder: Path, component: str, read: Callable[[], T]) -> T:
    """Check the folder, then run ``read`` without output; an error of transformers becomes one sentence.

    Raises:
        CapabilityError: it needs code that comes with the model, or a package that is not installed.
        IntegrityError: a file is missing or broken.
    """
    check_folder(folder)
    with quiet_transformers():
        return _translate_errors(folder, component, read)


def _translate_errors(folder: Path, component: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ClerestoryError:
        raise
    except ImportError as error:
        reason = f"needs a package that is not installed: {first_sentence(error)}"
        raise CapabilityError(
            f"the {component} of {display_name(folder)} {reason}",
            "install that package, or use a model that does not need it",
        ) from error
    except Exception as error:  # wrong values in a folder's files surface as any exception of the libraries
        message = f"the {component} of {display_name(folder)} cannot be read: {first_sentence(error)}"
        raise IntegrityError(message, DOWNLOAD_AGAIN) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress progress bars, load reports and warnings of transformers and its libraries."""
    from transformers.utils import logging  # here, because it takes longer than loading weights without it

    had_progress_bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_progress_bar:
            logging.enable_progress_bar()


def _refuse_misfits(
    folder: Path,
    shapes: Mapping[str, tuple[Iterable[int], Iterable[int]]],
    missing: Collection[str],
    unexpected: Collection[str],
) -> None:
    """Raise ``IntegrityError`` if tensors have another shape than the network's, are missing, or are unexpected."""
    differences = [f"{name} is {_shape(saved)}, not {_shape(own)}" for name, (saved, own) in shapes.items()]
    _refuse(folder, "do not fit the configuration in", differences)
    _refuse(folder, "lack", missing)
    _refuse(folder, "have unexpected", unexpected)


def _refuse(folder: Path, verb: str, names: Collection[str]) -> None:
    """Raise ``IntegrityError`` if there are any of these tensors."""
    if names:
        examples = ", ".join(sorted(names)[:MAX_NAMES]) + (" …" if len(names) > MAX_NAMES else "")
        count = plural(len(names), "tensor")
        raise IntegrityError(f"the weights of {display_name(folder)} {verb} {count}: {examples}", DOWNLOAD_AGAIN)


def _without_constants(network: nn.Module, missing: Iterable[str]) -> set[str]:
    """Missing tensors except integer buffers (position ids, batch counters), which the architecture itself fills."""
    constants = {name for name, buffer in network.named_buffers() if not buffer.is_floating_point()}
    return set(missing) - constants


@torch.no_grad()
def _not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    def is_finite(tensor: Tensor) -> bool:
        # The sum is several times faster and finite for all but extreme values.
        return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())

    return [name for name, tensor in tensors if tensor.is_floating_point() and not is_finite(tensor)]


def _shape(size: Iterable[int]) -> str:
    return "×".join(map(str, size)) or "a number"
