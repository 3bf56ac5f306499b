"""The files of a Hugging Face model: found or downloaded, checked, and digested. Weights as safetensors only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import httpx
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from clerestory.core.digest import digest, digest_file
from clerestory.core.errors import CapabilityError, IntegrityError, NotFound

WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
ELSEWHERE = (
    "on a computer with a network run: pip install huggingface_hub && hf download {name} --local-dir {last} — "
    "then copy the folder {last} here and use hf:./{last}"
)


def hub_folder(name: str) -> Path:
    """The folder of a model of the Hugging Face hub: from the cache on this machine, or downloaded into it.

    Only configuration, tokenizer and safetensors files of the top folder are fetched.

    Args:
        name: ``org/name``; ``org/name@revision`` takes one revision (a commit, a tag or a branch).

    Raises:
        NotFound: there is no such model, it may not be read without an account, or it is not on this machine and
            cannot be fetched.
    """
    repository, _, revision = name.partition("@")
    try:
        cached = _snapshot(repository, revision, offline=True)
        if is_whole(cached):
            return cached
    except (LocalEntryNotFoundError, EntryNotFoundError, OSError):
        pass  # not in the cache: fetch it below
    except HFValidationError as error:
        raise NotFound(f"hf:{name} is not the name of a model", "it looks like hf:org/name") from error
    elsewhere = ELSEWHERE.format(name=repository, last=repository.rpartition("/")[2])
    if constants.HF_HUB_OFFLINE:
        raise NotFound(f"hf:{name} is not on this machine, and HF_HUB_OFFLINE forbids fetching it", elsewhere)
    try:
        return _snapshot(repository, revision, offline=False)
    except GatedRepoError as error:
        fix = f"accept its terms at https://huggingface.co/{repository} and run: hf auth login"
        raise NotFound(f"hf:{name} may only be read by people who accepted its terms", fix) from error
    except RepositoryNotFoundError as error:
        raise NotFound(f"the Hugging Face hub has no model {repository!r}", "check the name; it is org/name") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotFound(f"hf:{name} is not on this machine and cannot be fetched ({reason[:160]})", elsewhere) from error


def _snapshot(repository: str, revision: str, offline: bool) -> Path:
    return Path(
        snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=list(WANTED),
            ignore_patterns=["*/*"],
            local_files_only=offline,
        )
    )


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a configuration and some safetensors weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not a model of safetensors weights.

    Raises:
        NotFound: there is no such folder.
        IntegrityError: it has no configuration, or no weights.
        CapabilityError: its weights are pickles, which may run code when they are read.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no model folder {folder}", "give the folder that holds config.json")
    if not (folder / "config.json").is_file():
        raise IntegrityError(f"{folder / 'config.json'} is missing", "give the folder of a Hugging Face model")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickles:
            raise CapabilityError(
                f"{folder} holds its weights as {pickles[0]}, a format that can run code when it is read",
                "use a version of the model with safetensors weights, or convert it on a computer you can lose",
            )
        raise IntegrityError(f"{folder} holds no weights (*.safetensors)", "fetch the model again")


def model_files(folder: Path) -> Mapping[str, str]:
    """The SHA-256 of each file that makes the model what it is: configuration, tokenizer, processor, weights."""
    found = sorted(path for pattern in WANTED for path in folder.glob(pattern) if path.is_file())
    return {path.name: _file_digest(*_identity(path)) for path in found}


def files_digest(folder: Path) -> str:
    """The content address of a model folder; a read-me or a picture beside the model does not change it."""
    return digest(dict(model_files(folder)))


def _identity(path: Path) -> tuple[str, int, int]:
    state = os.stat(path)
    return str(path.resolve()), state.st_size, state.st_mtime_ns


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, changed: int) -> str:
    """Of a file, computed once for as long as its size and time of change stay the same."""
    return digest_file(Path(path))
