"""A bundle of a release together with the documents about its data."""

from __future__ import annotations

from pathlib import Path

from clerestory.apps.data_documents.croissant import METADATA, croissant
from clerestory.apps.data_documents.record import dataset_record
from clerestory.apps.data_documents.sheet import data_sheet
from clerestory.apps.datasets import evaluated_data, load_dataset
from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import QUIET, Progress
from clerestory.stages.release.bundle import Bundle, write_bundle
from clerestory.store import Store
from clerestory.store.signing.keys import SigningKey


def bundle_release(
    ref: str,
    store: Store,
    out: Path,
    key: SigningKey,
    *,
    with_model: bool = True,
    force: bool = False,
    progress: Progress = QUIET,
) -> tuple[Bundle, str]:
    """Write a bundle with the data sheet and the Croissant metadata of the data that the model was evaluated on.

    Args:
        ref: a release, such as ``icons@3``.
        store: holds it.
        out: a new folder, or a file whose name ends in ``.zip``.
        key: signs the bundle.
        with_model: put the files of the model in.
        force: an existing zip may be replaced.
        progress: reports the opening of the data.

    Returns:
        The bundle, and why it has no documents about the data; empty if it has them.
    """
    made, problem = _data_documents(store, store.resolve(ref).digest, progress)
    return write_bundle(ref, store, out, key, with_model=with_model, force=force, more_documents=made), problem


def _data_documents(store: Store, model: str, progress: Progress) -> tuple[dict[str, bytes], str]:
    name = evaluated_data(store, model)
    if not name:
        return {}, "the store has no name for the data that the model was evaluated on"
    try:
        data = load_dataset(store, name, progress)
    except ClerestoryError as error:
        return {}, error.message
    if data.digest != store.dataset(name).digest:
        return {}, f"{name} has changed since it was evaluated"
    record = dataset_record(data, store)
    # The tables of samples and captions stay with the data: a bundle has measurements of them.
    metadata = croissant(data, record)[METADATA]
    return {"data-sheet.md": data_sheet(record).encode(), METADATA: metadata}, ""
