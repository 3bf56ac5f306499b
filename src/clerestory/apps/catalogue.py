"""Data sets under the names people gave them. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.codec import Tags
from clerestory.core.errors import DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import now, person
from clerestory.core.release import Event
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.store import Store


def bring_in(
    store: Store, spec: str, name: str = "", *, who: str = "", why: str = "", progress: Progress = QUIET
) -> Dataset:
    """Open data and remember it under a name, with a journal record when it is new or has changed.

    Args:
        store: where to remember it.
        spec: ``icons``, a folder, or a .parquet, .csv or .jsonl file.
        name: what to call it; the file's or folder's own name when empty.
        who: the person; the login name when empty.
        why: the reason that goes into the journal.
        progress: told about rendering and reading.

    Raises:
        DataError: nothing readable is in it.
    """
    data = open_data(spec, progress)
    path = Path(spec)
    is_path = path.exists()
    name = name or (path.resolve().stem if is_path else spec)
    known = {row.name: row for row in store.datasets()}
    if name not in known or known[name].digest != data.digest:
        details = Tags(digest=data.digest, samples=str(len(data)))
        event = Event("data_added", name, who or person(), why or f"brought in from {spec}", now(), details)
        store.put_dataset(name, str(path.resolve()) if is_path else spec, data.digest, len(data), event)
    return data


def dataset(store: Store, name: str, progress: Progress = QUIET) -> Dataset:
    """A data set that was brought in, opened again and checked against the digest it had; or data brought in now.

    Raises:
        DataError: its content has changed since it was brought in.
    """
    for row in store.datasets():
        if row.name == name:
            data = open_data(row.spec, progress)
            if data.digest != row.digest:
                raise DataError(
                    f"the data set {name!r} has changed since it was brought in",
                    f"accept the change with: clerestory data add {row.spec} --name {name}",
                )
            return data
    return bring_in(store, name, progress=progress)
