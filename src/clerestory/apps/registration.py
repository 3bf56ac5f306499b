"""Models by reference become models of the store, so that they can be decided on, released, reported and compared."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from clerestory.apps.loading import load_model, open_stored, resolve_stored
from clerestory.apps.starter import add_starter
from clerestory.core.codec import Tags
from clerestory.core.errors import IntegrityError
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.models import AnyModel
from clerestory.models.adapters.endpoint_reference import read_reference, write_reference
from clerestory.models.adapters.http_client import OPENAI
from clerestory.models.adapters.openai import NOT_PINNED
from clerestory.models.resolve import files_of_model, reference_folder
from clerestory.models.starter import STARTER
from clerestory.report.provenance import MODEL_ADDED
from clerestory.store import Store


def stored_model(store: Store, ref: str) -> str:
    """The digest of a model in the store; a model from elsewhere is added first.

    The files of a model are copied: a folder can change later, and a release must not.

    Args:
        store: receives the model.
        ref: as for ``load_model``.

    Raises:
        NotFound: there is no such model.
        InputError, IntegrityError, CapabilityError: as ``load_model`` and ``Store.put_model``.
    """
    if ref == STARTER:
        return add_starter(store)
    resolved = resolve_stored(store, ref)
    if resolved is not None:
        return resolved.digest
    if ref.startswith(OPENAI):
        model, _ = load_model(store, ref)
        return _put_endpoint(store, model)
    folder = reference_folder(ref)
    digest = store.put_model(folder, files_of_model(folder))
    if not store.journal.records(digest, limit=1, kinds=(MODEL_ADDED,)):
        store.journal.append(Event(MODEL_ADDED, digest, current_user(), f"added from {ref}", now(), Tags(source=ref)))
    return digest


def register_evaluated(store: Store, ref: str, model: AnyModel) -> None:
    """Add a model from elsewhere to the store after it was evaluated.

    Raises:
        IntegrityError: its files changed since it was opened.
        InputError: it cannot be copied; names the reason.
    """
    if resolve_stored(store, ref) is not None:
        return
    stored = _put_endpoint(store, model) if ref.startswith(OPENAI) else stored_model(store, ref)
    if stored != model.digest:
        raise IntegrityError(
            f"the files of {ref} changed while it was evaluated: its digest was {model.digest[:12]} and is "
            f"{stored[:12]}",
            "evaluate it again",
        )


def what_is_not_pinned(store: Store, digest: str) -> Tags:
    """Notes for the release of a model: what can change without its digest, of an endpoint; empty for any other.

    Raises:
        IntegrityError, InputError, Undecided: the endpoint does not answer as it did when it was evaluated.
    """
    if read_reference(store.model_folder(digest)) is None:
        return Tags()
    model = open_stored(store, digest)
    facts = model.facts()
    checked = facts.get("fingerprint_requests", "unknown")
    return Tags(endpoint=str(facts["endpoint"]), not_pinned=NOT_PINNED, fingerprint_requests=str(checked))


def _put_endpoint(store: Store, model: AnyModel) -> str:
    """Add the reference of an endpoint to the store; its digest is that of the model."""
    with TemporaryDirectory() as folder:
        return store.put_model(write_reference(vars(model)["reference"], Path(folder)))
