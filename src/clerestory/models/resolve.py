"""Any model by reference: ``hf:org/name``, ``hf:./folder``, ``openai:http://host/v1#model``, or a folder."""

from __future__ import annotations

import json
from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from clerestory.core.errors import IntegrityError, NotFound
from clerestory.models.adapters.files import check_folder, hub_folder
from clerestory.models.adapters.hf_chat import open_chat
from clerestory.models.adapters.hf_dual import open_dual
from clerestory.models.adapters.http_client import host_of, is_loopback
from clerestory.models.adapters.openai import open_endpoint
from clerestory.models.protocols import AnyModel
from clerestory.models.runtime import open_model
from clerestory.models.starter import STARTER, starter_folder

HF, OPENAI = "hf:", "openai:"
REFERENCE_FORMS = "a model is named by hf:org/name, hf:./folder, openai:http://host/v1#model, a folder, or starter"


def is_model_location(ref: str) -> bool:
    """Whether a reference names a model by where it is, not by a release or a digest of ours."""
    return ref == STARTER or ref.startswith((HF, OPENAI, "./", "../", "/", "~"))


def remote_host(ref: str) -> str:
    """The host that pictures and words are sent to when this model is used; empty when all stays on this computer.

    Raises:
        InputError: the address of an endpoint cannot be read.
    """
    if not ref.startswith(OPENAI):
        return ""
    host = host_of(ref.removeprefix(OPENAI).partition("#")[0])
    return "" if is_loopback(host) else host


def open_reference(ref: str) -> AnyModel:
    """Open the model a reference names; what it can do tells ``capabilities``.

    Args:
        ref: ``hf:org/name`` (from the cache on this machine, else downloaded), ``hf:./folder`` or a plain folder (of
            Hugging Face's layout, ours included), ``openai:http://host/v1#model``, or ``starter`` (the model that
            comes with Clerestory).

    Raises:
        NotFound: there is no such model here, and it cannot be fetched.
        IntegrityError: a file of it is missing or broken.
        CapabilityError: it is of a kind that can do nothing that is asked here, or would need code of its own.
        InputError: the reference cannot be read, or its endpoint does not answer.
    """
    if ref == STARTER:
        return open_model(starter_folder())
    if ref.startswith(OPENAI):
        return open_endpoint(ref)
    if ref.startswith(HF):
        place = ref.removeprefix(HF)
        if not place:
            raise NotFound("hf: alone names no model", REFERENCE_FORMS)
        folder = Path(place).expanduser()
        # "org/name" may be a folder here too; a name of the hub has exactly one slash and no dot in front.
        if place.startswith((".", "/", "~")) or folder.is_dir():
            return open_folder(folder, ref)
        return open_folder(hub_folder(place), ref)
    return open_folder(Path(ref).expanduser(), ref)


def open_folder(folder: Path, name: str = "") -> AnyModel:
    """Open a model folder of any kind, chosen by its configuration.

    Raises:
        NotFound, IntegrityError, CapabilityError: as ``open_reference``.
    """
    check_folder(folder)
    kind = _kind(folder)
    if kind == "clerestory":
        return open_model(folder)
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return open_chat(folder, name)
    return open_dual(folder, name)


def _kind(folder: Path) -> str:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return str(config.get("model_type", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise IntegrityError(f"{file} cannot be read as a configuration: {error}", "fetch the model again") from error
