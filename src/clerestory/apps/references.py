"""Included models and digests where a command needs a release, or a model of the store."""

from __future__ import annotations

from contextlib import suppress

from clerestory.apps.registration import stored_model
from clerestory.core.errors import NotFound
from clerestory.models.resolve import INCLUDED
from clerestory.store import Store


def release_reference(store: Store, ref: str) -> str:
    """The reference of the release that a command needs: ``ref`` itself, or the only release of the model it names.

    Args:
        store: the releases.
        ref: ``icons@3``, ``icons@live``, ``icons``; or ``starter``, ``photos`` or a model's digest.

    Raises:
        NotFound: no release was made from the model, or several; names them.
        InputError: the digest prefix is ambiguous.
    """
    model = _model_of(store, ref)
    if not model:
        return ref
    releases = [release.ref for release in store.releases() if release.model == model]
    if not releases:
        raise NotFound(
            f"{ref} is a model, and no release was made from it", f"make one with: clerestory release gate {ref}"
        )
    if len(releases) > 1:
        raise NotFound(f"{ref} is a model; its releases are {', '.join(releases)}", "name one of them")
    return releases[0]


def model_reference(store: Store, ref: str) -> str:
    """A reference that the store resolves, where a model suffices: an included model is added and named by its digest.

    Args:
        store: receives the model.
        ref: as for ``release_reference``.

    Raises:
        NotFound, IntegrityError: the included model cannot be opened.
    """
    return stored_model(store, ref) if _is_included(store, ref) else ref


def _model_of(store: Store, ref: str) -> str:
    """The digest of the model that a reference names; empty if it names a release, or nothing."""
    if _is_included(store, ref):
        return stored_model(store, ref)
    with suppress(NotFound):
        resolved = store.resolve(ref)
        return "" if resolved.release else resolved.digest
    return ""


def _is_included(store: Store, ref: str) -> bool:
    """Whether a reference is an included model, and not the model name of releases."""
    return ref in INCLUDED and not store.releases(ref)
