"""Models by reference: releases and digests in the store, Hugging Face models, folders and endpoints."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.errors import NotFound, closest
from clerestory.models import AnyModel, open_reference
from clerestory.models.folder_check import check_folder
from clerestory.models.resolve import HF, OPENAI, REFERENCE_FORMS, is_model_location, open_folder, remote_host
from clerestory.models.starter import STARTER
from clerestory.store import ResolvedModel, Store, open_store

CLERESTORY_CAPABILITIES = ("Embedder", "Scorer", "Captioner")  # of every model that Clerestory trained


def open_any_model(ref: str | Path, store: Store | None = None) -> AnyModel:
    """Open a model as commands name it; ``cl.open_model``.

    Args:
        ref: as in ``load_model``, or a model folder.
        store: the releases and models; the default store if None, which is only opened for a release or a digest.

    Raises:
        NotFound, IntegrityError, CapabilityError, InputError: as ``load_model``.
    """
    if isinstance(ref, Path):
        return open_folder(ref, str(ref))
    if is_external(ref):
        return open_reference(ref)
    return load_model(store or open_store(), ref)[0]


def load_model(store: Store, ref: str) -> tuple[AnyModel, ResolvedModel]:
    """The model of a reference, ready to use; ``models.require_capability`` checks its capabilities.

    Args:
        store: the releases and models.
        ref: ``icons@live``, ``icons@3``, a digest, ``hf:org/name``, ``hf:./folder``, a folder or
            ``openai:http://host/v1#model``.

    Returns:
        The model, and its digest and release; the release is None for every other kind of reference.

    Raises:
        NotFound, IntegrityError, CapabilityError, InputError: as ``Store.resolve`` and ``models.open_reference``.
    """
    if is_model_location(ref):
        model = open_reference(ref)
        return model, ResolvedModel(model.digest, None)
    try:
        resolved = store.resolve(ref)
    except NotFound as error:
        if (Path(ref) / "config.json").is_file():
            model = open_reference(ref)
            return model, ResolvedModel(model.digest, None)
        raise _not_found(ref, error) from error
    return open_folder(store.model_folder(resolved.digest), ref), resolved


def check_reference(store: Store, ref: str) -> None:
    """Check at once, without loading it, that the model of a reference exists; one of a hub or an endpoint may be late.

    Raises:
        NotFound: a release, a digest or a folder that does not exist; carries the closest names.
        IntegrityError: a file of the model folder is missing.
    """
    if ref.startswith(OPENAI) or ref == STARTER:
        return
    location = ref.removeprefix(HF)
    if is_external(ref):
        if location.startswith(("./", "../", "/", "~")) or not ref.startswith(HF):
            check_folder(Path(location).expanduser())
        return
    try:
        store.resolve(ref)
    except NotFound as error:
        raise _not_found(ref, error) from error


def _not_found(ref: str, error: NotFound) -> NotFound:
    """The error for a reference that is neither in the store nor a folder, with what was probably meant."""
    if "/" in ref:  # probably a name of the Hugging Face hub
        return NotFound(error.message, f"for a model of the Hugging Face hub write hf:{ref}; {REFERENCE_FORMS}")
    if not error.closest and closest(ref, [STARTER]):
        return NotFound(error.message, error.fix, (STARTER,))
    return error


def is_external(ref: str) -> bool:
    """Whether a reference names a model outside the store: of the hub, behind an endpoint, or in a folder."""
    return is_model_location(ref) or (Path(ref) / "config.json").is_file()


def known_models(store: Store) -> list[tuple[str, tuple[str, ...]]]:
    """The releases in the store with their capabilities, newest first, for ``models.require_capability``."""
    return [(release.ref, CLERESTORY_CAPABILITIES) for release in store.releases()]


def privacy_notice(ref: str) -> str:
    """One sentence for the user if the model runs on another computer; empty if no data leaves this one."""
    host = remote_host(ref)
    return f"images and text are sent to {host}, which is another computer" if host else ""
