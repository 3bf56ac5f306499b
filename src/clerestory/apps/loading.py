"""Models by reference, ready to use: releases and digests of ours, and other people's models."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.errors import NotFound
from clerestory.models import AnyModel, open_reference
from clerestory.models.resolve import FORMS, is_outside, leaves_for, open_folder
from clerestory.store import Resolved, Store

OWN = ("Embedder", "Scorer", "Describer")  # what a model that was trained here can do


def load_model(store: Store, ref: str) -> tuple[AnyModel, Resolved]:
    """The model that a reference names, ready to use; ``models.need`` tells whether it can do what is wanted.

    Args:
        store: where releases and models of ours are.
        ref: ``icons@live``, ``icons@3``, a digest, ``hf:org/name``, ``hf:./folder``, a folder or
            ``openai:http://host/v1#model``.

    Returns:
        The model, and what the reference stands for; ``release`` is None for all but releases.

    Raises:
        NotFound, IntegrityError, CapabilityError, InputError: as ``Store.resolve`` and ``models.open_reference``.
    """
    if is_outside(ref):
        model = open_reference(ref)
        return model, Resolved(model.digest, None)
    try:
        resolved = store.resolve(ref)
    except NotFound as error:
        if (Path(ref) / "config.json").is_file():
            model = open_reference(ref)
            return model, Resolved(model.digest, None)
        if "/" in ref:  # most likely meant for the hub
            raise NotFound(error.message, f"for a model of the Hugging Face hub write hf:{ref}; {FORMS}") from error
        raise
    return open_folder(store.model_folder(resolved.digest), ref), resolved


def is_elsewhere(ref: str) -> bool:
    """Whether a reference names a model that is not kept in the store: of the hub, behind an endpoint, or a folder."""
    return is_outside(ref) or (Path(ref) / "config.json").is_file()


def known_models(store: Store) -> list[tuple[str, tuple[str, ...]]]:
    """The releases at hand with what they can do, newest first, for ``models.need``."""
    return [(release.ref, OWN) for release in store.releases()]


def privacy_notice(ref: str) -> str:
    """One sentence for whoever uses a model that is not on this computer; empty when nothing leaves it."""
    host = leaves_for(ref)
    return f"pictures and words are sent to {host}, which is not this computer" if host else ""
