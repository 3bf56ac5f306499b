"""Opens any model by its reference: ``hf:org/name``, ``hf:./folder``, ``openai:http://host/v1#model``, or a folder.

What opens models is imported when one is opened, so that commands can read references without torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clerestory.core.errors import NotFound
from clerestory.core.imports import paused_garbage_collection
from clerestory.models.adapters.http_client import OPENAI, host_of, is_loopback
from clerestory.models.folder_check import HEAD_TYPE, OWN_TYPE, PHOTO_TYPE, check_folder
from clerestory.models.protocols import AnyModel
from clerestory.models.starter import PHOTOS, STARTER, starter_folder

HF = "hf:"
INCLUDED = (PHOTOS, STARTER)  # the models that are part of Clerestory
REFERENCE_FORMS = "a model is hf:org/name, hf:./folder, openai:http://host/v1#model, a folder, photos, or starter"


def is_model_location(ref: str) -> bool:
    """Whether a reference is the location of a model, not a release or a digest in the store."""
    return ref in INCLUDED or ref.startswith((HF, OPENAI, "./", "../", "/", "~"))


def remote_host(ref: str) -> str:
    """The host to which images and texts are sent when this model is used; empty if nothing leaves this computer.

    Raises:
        InputError: the URL of an endpoint is invalid.
    """
    if not ref.startswith(OPENAI):
        return ""
    host = host_of(ref.removeprefix(OPENAI).partition("#")[0])
    return "" if is_loopback(host) else host


def open_reference(ref: str) -> AnyModel:
    """Open the model of a reference; ``capabilities`` returns its capabilities.

    Args:
        ref: ``hf:org/name`` (from the cache on this machine, otherwise downloaded), ``hf:./folder`` or a plain folder
            (in Hugging Face's layout, as Clerestory's own), ``openai:http://host/v1#model``, or ``photos`` or
            ``starter``, the models for photographs and for drawings that are part of Clerestory.

    Raises:
        NotFound: the model does not exist on this machine and cannot be downloaded.
        IntegrityError: one of its files is missing or broken.
        CapabilityError: its architecture is not supported, or it needs custom code.
        InputError: the reference is invalid, or its endpoint does not respond.
    """
    if ref.startswith(OPENAI):
        from clerestory.models.adapters.openai import open_endpoint

        return open_endpoint(ref)
    return open_folder(reference_folder(ref), ref)


def reference_folder(ref: str) -> Path:
    """The folder of the model of a reference; one of the hub is downloaded if it is not on this machine.

    Args:
        ref: as for ``open_reference``, but not an endpoint.

    Raises:
        NotFound: the model does not exist on this machine and cannot be downloaded.
    """
    if ref == STARTER:
        return starter_folder()
    if ref == PHOTOS:
        from clerestory.models.photo.folder import photos_folder

        return photos_folder()
    if ref.startswith(HF):
        name = ref.removeprefix(HF)
        if not name:
            raise NotFound("the reference hf: has no model name", REFERENCE_FORMS)
        folder = Path(name).expanduser()
        # "org/name" may also be a local folder; a name on the hub has exactly one slash and no leading dot.
        if name.startswith((".", "/", "~")) or folder.is_dir():
            return folder
        from clerestory.models.adapters.files import hub_folder

        return hub_folder(name)
    return Path(ref).expanduser()


def files_of_model(folder: Path) -> tuple[str, ...] | None:
    """The names of the files that make up a model, which are those of its digest; None if all files of the folder do.

    Raises:
        NotFound, IntegrityError, CapabilityError: as ``open_reference``.
    """
    if check_folder(folder).get("model_type") in (HEAD_TYPE, OWN_TYPE, PHOTO_TYPE):
        return None
    from clerestory.models.adapters.files import model_files

    return tuple(model_files(folder))


def open_folder(folder: Path, name: str = "") -> AnyModel:
    """Open a model folder of any architecture, as its configuration says.

    Raises:
        NotFound, IntegrityError, CapabilityError: as ``open_reference``.
    """
    config = check_folder(folder)
    if config.get("model_type") == OWN_TYPE:
        with paused_garbage_collection():
            from clerestory.models.runtime import open_model

            return open_model(folder)
    if config.get("model_type") == PHOTO_TYPE:
        from clerestory.models.photo.encoder import open_photo_encoder

        return open_photo_encoder(folder)
    if config.get("model_type") == HEAD_TYPE:
        from clerestory.models.adapters.headed import open_headed

        return open_headed(folder, name)
    if _generates(config):
        from clerestory.models.adapters.hf_chat import open_chat

        return open_chat(folder, name)
    from clerestory.models.adapters.hf_dual import open_dual

    return open_dual(folder, name)


def _generates(config: dict[str, Any]) -> bool:
    """Whether a configuration is that of a model that generates text about images.

    Several architectures can share a type: ``blip`` is the type of a captioner and of a dual encoder. So the
    architecture that the weights were saved from decides, and the type only without one that transformers has.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    model_type, architectures = config.get("model_type"), config.get("architectures")
    known = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(model_type, ()) if isinstance(model_type, str) else ()
    generators = {known} if isinstance(known, str) else set(known)
    saved_from = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(saved_from, str) or not hasattr(transformers, saved_from):
        return bool(generators)
    return saved_from in generators
