"""Models by reference: releases and digests in the store, Hugging Face models, folders and endpoints."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from clerestory.apps.exported_models import ONNX, open_export, runtime
from clerestory.core.digest import canonical, digest_folder
from clerestory.core.errors import NotFound, closest
from clerestory.models import AnyModel, open_reference
from clerestory.models.adapters.endpoint_reference import changed_answers, fingerprint, read_reference
from clerestory.models.adapters.http_client import OPENAI
from clerestory.models.adapters.openai import Endpoint, open_pinned
from clerestory.models.folder_check import check_folder
from clerestory.models.resolve import HF, INCLUDED, REFERENCE_FORMS, is_model_location, open_folder, remote_host
from clerestory.models.starter import STARTER, starter_folder
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
    resolved = resolve_stored(store, ref)
    if resolved is None and ref == STARTER and runtime() == ONNX:
        resolved = ResolvedModel(digest_folder(starter_folder())[0], None)
        return open_export(store, resolved.digest, ref), resolved
    if resolved is None:
        model = open_reference(ref)
        if isinstance(model, Endpoint):
            _pin(model, store)
        return model, ResolvedModel(model.digest, None)
    return open_stored(store, resolved.digest, ref), resolved


def open_stored(store: Store, digest: str, name: str = "") -> AnyModel:
    """A model of the store; an endpoint is only opened while it answers as it did when it was registered.

    Raises:
        NotFound, IntegrityError, CapabilityError, InputError: as ``Store.model_folder``, ``open_folder`` and
            ``open_pinned``.
    """
    folder = store.model_folder(digest)
    if read_reference(folder):
        return open_pinned(folder)
    return open_export(store, digest, name) if runtime() == ONNX else open_folder(folder, name)


def _pin(model: Endpoint, store: Store) -> None:
    """Give an endpoint the digest that goes with its present answers to the fixed requests.

    While it answers as before it keeps its digest, so its cached answers and its evidence hold; otherwise it counts as
    another model.
    """
    key = f"endpoint/{model.digest}"
    content = store.cache_read(key)
    known: dict[str, str] = json.loads(content) if content else {}
    if not known or changed_answers(model, known):
        known = fingerprint(model)
        if known:  # without an answer it may come later
            store.cache_content(key, canonical(known))
    model.pin(known)


def resolve_stored(store: Store, ref: str) -> ResolvedModel | None:
    """The model of the store that a reference names; None if it names one elsewhere.

    Raises:
        NotFound, InputError: as ``Store.resolve``.
    """
    if is_model_location(ref):
        return None
    try:
        return store.resolve(ref)
    except NotFound as error:
        if (Path(ref) / "config.json").is_file():
            return None
        raise _not_found(ref, error) from error


def remote_host_of(folder: Path) -> str:
    """The host that a model of the store sends images and texts to; empty if nothing leaves this computer."""
    reference = read_reference(folder)
    return remote_host(f"{OPENAI}{reference['endpoint']}") if reference else ""


def check_reference(store: Store, ref: str) -> None:
    """Check at once, without loading it, that the model of a reference exists; one of a hub or an endpoint may be late.

    Raises:
        NotFound: a release, a digest or a folder that does not exist; carries the closest names.
        IntegrityError: a file of the model folder is missing.
    """
    if ref.startswith(OPENAI) or ref in INCLUDED:
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
    if not error.closest and closest(ref, INCLUDED):
        return NotFound(error.message, error.fix, tuple(closest(ref, INCLUDED)))
    return error


def is_external(ref: str) -> bool:
    """Whether a reference names a model outside the store: of the hub, behind an endpoint, or in a folder."""
    return is_model_location(ref) or (Path(ref) / "config.json").is_file()


def known_models(store: Store) -> list[tuple[str, tuple[str, ...]]]:
    """The releases of models that Clerestory trained, newest first, for ``models.require_capability``."""
    return [
        (release.ref, CLERESTORY_CAPABILITIES)
        for release in store.releases()
        if "preprocessor_config.json" in store.model_files(release.model)
    ]


def privacy_notice(ref: str, store: Store | None = None) -> str:
    """One sentence for the user if the model runs on another computer; empty if no data leaves this one.

    Args:
        ref: the reference of the model.
        store: its releases, which may be of endpoints.
    """
    host = remote_host(ref)
    if store is not None and not is_external(ref):
        with suppress(NotFound):
            host = remote_host_of(store.model_folder(store.resolve(ref).digest))
    return f"images and text are sent to {host}, which is another computer" if host else ""
