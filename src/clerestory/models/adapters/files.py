"""The files of a Hugging Face model: located or downloaded, checked, and digested. Weights as safetensors only."""

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
from clerestory.core.errors import NotFound
from clerestory.models.languages import MODEL_CARD

MODEL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
DOWNLOAD_HINT = (
    "on a computer with a network run: pip install huggingface_hub && hf download {name} --local-dir {folder} — "
    "then copy the folder {folder} here and use hf:./{folder}"
)


def hub_folder(name: str) -> Path:
    """The folder of a model of the Hugging Face hub: from the cache on this machine, or downloaded into it.

    Only configuration, tokenizer and safetensors files of the top folder and its model card are downloaded.

    Args:
        name: ``org/name``, or ``org/name@revision`` (a commit, a tag or a branch).

    Raises:
        NotFound: the model does not exist, needs an account, or is not on this machine and cannot be downloaded.
    """
    repository, _, revision = name.partition("@")
    try:
        cached = _snapshot(repository, revision, offline=True)
        if is_complete(cached):
            return cached
    except (LocalEntryNotFoundError, EntryNotFoundError, OSError):
        pass  # not in the cache: download it below
    except HFValidationError as error:
        raise NotFound(f"hf:{name} is not a valid model name", "use the form hf:org/name") from error
    hint = DOWNLOAD_HINT.format(name=repository, folder=repository.rpartition("/")[2])
    if constants.HF_HUB_OFFLINE:
        raise NotFound(f"hf:{name} is not on this machine, and HF_HUB_OFFLINE forbids downloads", hint)
    try:
        return _snapshot(repository, revision, offline=False)
    except GatedRepoError as error:
        fix = f"accept its terms at https://huggingface.co/{repository} and run: hf auth login"
        raise NotFound(f"hf:{name} is gated: its terms have to be accepted first", fix) from error
    except RepositoryNotFoundError as error:
        raise NotFound(
            f"the Hugging Face hub has no model {repository!r}", "check the name; its form is org/name"
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotFound(f"hf:{name} is not on this machine and cannot be downloaded ({reason[:160]})", hint) from error


def _snapshot(repository: str, revision: str, offline: bool) -> Path:
    return Path(
        snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=[*MODEL_FILES, MODEL_CARD],
            ignore_patterns=["*/*"],
            local_files_only=offline,
        )
    )


def is_complete(folder: Path) -> bool:
    """Whether a folder has a configuration and safetensors weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def model_files(folder: Path) -> Mapping[str, str]:
    """The SHA-256 of each file that affects the outputs: configuration, tokenizer, processor, weights."""
    files = sorted(path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file())
    return {path.name: _file_digest(*_identity(path)) for path in files}


def files_digest(folder: Path) -> str:
    """The content address of a model folder; a README or another file beside the model does not change it."""
    return digest(dict(model_files(folder)))


def _identity(path: Path) -> tuple[str, int, int]:
    state = os.stat(path)
    return str(path.resolve()), state.st_size, state.st_mtime_ns


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    """The digest of a file, computed again only if its size or modification time changes."""
    return digest_file(Path(path))
