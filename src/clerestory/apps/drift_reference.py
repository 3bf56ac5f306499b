"""The reference of live drift monitors: chosen by a person, or the data of the release's evaluation."""

from __future__ import annotations

import time
from dataclasses import dataclass

from clerestory.apps.datasets import evaluated_data, load_dataset
from clerestory.apps.drift_sources import DriftSource, reference_of
from clerestory.core.codec import Tags, encode
from clerestory.core.errors import DataError, InputError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.core.sample import TEST
from clerestory.models.protocols import Embedder
from clerestory.store import Store
from clerestory.store.operations.monitor_states import (
    REFERENCE,
    RESET,
    MonitorRecord,
    find_monitor,
    write_monitor,
)


@dataclass(frozen=True, slots=True)
class ReferenceChoice:
    """Which data live traffic is compared with.

    Attributes:
        data: the name of the dataset.
        digest: of its content.
        split: of it; empty for all.
        who, when, why: the person who chose it; empty if it follows from the evaluation.
    """

    data: str
    digest: str
    split: str = ""
    who: str = ""
    when: str = ""
    why: str = ""


def choose_reference(
    store: Store, name: str, data: str, split: str = "", why: str = "", progress: Progress = QUIET
) -> ReferenceChoice:
    """Choose the reference of a model name, with a journal record; running servers start their monitors again.

    Raises:
        DataError: the dataset or the split does not exist.
    """
    dataset = load_dataset(store, data, progress)
    if split and not any(sample.split == split for sample in dataset):
        known = ", ".join(sorted({sample.split for sample in dataset} - {""})) or "no splits"
        raise DataError(f"{dataset.name} has no split {split!r}", f"it has {known}")
    choice = ReferenceChoice(dataset.name, dataset.digest, split, current_user(), now(), why)
    details = Tags(data=choice.data, digest=choice.digest, split=split)
    store.database.ensure_operations()
    with store.database.writing() as connection:
        write_monitor(connection, MonitorRecord(name, REFERENCE, "", "", time.time(), encode(choice)))
        event = Event("drift_reference", name, choice.who, why or "chosen as the reference", choice.when, details)
        store.journal.write(connection, event)
    return choice


def reference_choice(store: Store, name: str, model: str) -> ReferenceChoice | None:
    """The chosen reference of a model name, else the data of the newest evaluation of a model; None without either."""
    chosen = find_monitor(store.database, name, REFERENCE)
    if chosen is not None:
        return ReferenceChoice(**{key: str(value) for key, value in chosen.body.items()})
    data = evaluated_data(store, model)
    row = next((row for row in store.datasets() if row.name == data), None) if data else None
    return ReferenceChoice(row.name, row.digest) if row is not None else None


def open_reference(store: Store, choice: ReferenceChoice, model: Embedder, progress: Progress = QUIET) -> DriftSource:
    """The reference, embedded by a model; of an evaluation it is the test split, if there is one.

    Raises:
        DataError: the dataset has changed since it was chosen.
    """
    data = load_dataset(store, choice.data, progress)
    if data.digest != choice.digest:
        raise DataError(
            f"the dataset {choice.data!r} has changed since it became the reference",
            f"choose it again with: clerestory watch reference NAME --data {choice.data}",
        )
    split = choice.split
    if not split and not choice.who and any(sample.split == TEST for sample in data):
        split = TEST  # the training images would look more familiar than any traffic
    return reference_of(data, store, model, split, progress)


def request_reset(store: Store, name: str, why: str) -> None:
    """Have running servers start the monitors of a model name again after an alarm, with a journal record.

    Raises:
        InputError: without a reason.
    """
    if not why.strip():
        raise InputError("monitors are only reset for a reason", "give it with --why")
    who = current_user()
    store.database.ensure_operations()
    with store.database.writing() as connection:
        write_monitor(connection, MonitorRecord(name, RESET, "", "", time.time(), {"who": who, "why": why}))
        store.journal.write(connection, Event("drift_reset", name, who, why, now(), Tags()))
