"""Datasets registered by name. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.codec import Tags
from clerestory.core.errors import DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.store import Store


def add_dataset(
    store: Store, source: str, name: str = "", *, who: str = "", why: str = "", progress: Progress = QUIET
) -> Dataset:
    """Open a dataset and register it under a name, with a journal record if it is new or has changed.

    Args:
        store: where to register it.
        source: ``icons``, a folder, or a .parquet, .csv or .jsonl file.
        name: its name; by default that of the file or folder.
        who: the person; by default the login name.
        why: the reason, for the journal.
        progress: reports rendering and reading.

    Raises:
        DataError: no sample is readable.
    """
    data = open_data(source, progress)
    path = Path(source)
    is_path = path.exists()
    name = name or (path.resolve().stem if is_path else source)
    registered = {row.name: row for row in store.datasets()}
    if name not in registered or registered[name].digest != data.digest:
        details = Tags(digest=data.digest, samples=str(len(data)))
        event = Event("data_added", name, who or current_user(), why or f"added from {source}", now(), details)
        store.put_dataset(name, str(path.resolve()) if is_path else source, data.digest, len(data), event)
    return data


def load_dataset(store: Store, name: str, progress: Progress = QUIET) -> Dataset:
    """A registered dataset, opened and checked against its digest; any other source is added first.

    Raises:
        DataError: the content has changed since it was registered.
    """
    for row in store.datasets():
        if row.name == name:
            data = open_data(row.spec, progress)
            if data.digest != row.digest:
                raise DataError(
                    f"the content of the dataset {name!r} has changed since it was added",
                    f"accept the change with: clerestory data add {row.spec} --name {name}",
                )
            return data
    return add_dataset(store, name, progress=progress)
