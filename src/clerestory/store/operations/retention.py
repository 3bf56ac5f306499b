"""How long requests and feedback are stored, and their erasure on request.

What is removed leaves nothing behind in the database file of SQLite: its pages are overwritten, and the log beside it
is emptied. The journal has the number of what was erased and a digest of the ids, so it stays verifiable.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection, delete, or_, select

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import InputError
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.core.settings import Range, check_settings
from clerestory.store.database import Database
from clerestory.store.operations.feedback import CorrectionState, read_feedback, remove_feedback_before
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.keyed_hash import KeyedHash
from clerestory.store.operations.predictions import in_slices, remove_predictions_before
from clerestory.store.operations.schema import feedback, predictions
from clerestory.store.store import Store

ERASED = "erased"  # the kind of its event in the journal
BATCH = 500  # rows of one transaction: others that write wait no longer than for these
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long what happened in service is stored.

    Attributes:
        requests_days: the rows of the request log; those with feedback stay as long as that does.
        feedback_days: feedback, and images that were kept.

    Raises:
        SettingError: a number is out of its range.
    """

    requests_days: Annotated[int, Range(1, 3_650)] = 30
    feedback_days: Annotated[int, Range(1, 3_650)] = 365

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased.

    Attributes:
        requests, feedback, images: how many.
        in_datasets: how many of the erased corrections were accepted into a dataset, which is not changed.
        record: the number of the journal record; 0 if there was nothing to erase.
    """

    requests: int
    feedback: int
    images: int
    in_datasets: int
    record: int


def remove_expired(database: Database, images: KeptImages, settings: RetentionSettings, clock: float) -> int:
    """Remove one batch of what is older than its retention; how many rows, 0 when nothing is left to remove.

    Args:
        database: holds the rows.
        images: the kept images.
        settings: how long each is stored.
        clock: the time, in seconds since the epoch.
    """
    with database.writing() as connection:
        overwrite_removed(connection)
        responses = remove_feedback_before(connection, clock - settings.feedback_days * DAY, BATCH)
        count = remove_predictions_before(connection, clock - settings.requests_days * DAY, BATCH)
    images.remove(responses)
    return count + len(responses)


def erase(store: Store, *, subject: str = "", request: str = "", who: str = "", why: str) -> Erased:
    """Erase the requests of one user, or one request, with their feedback and kept images.

    A server that is running may still have a request of that user in its queue; it is written within a second, so this
    is done twice, with a second between.

    Args:
        store: holds the rows.
        subject: the user id as the requests named it; only its keyed hash is compared.
        request: the id of a request or of a response.
        who: the person; by default the login name.
        why: the reason, for the journal, which is never erased: without personal data.

    Raises:
        InputError: neither or both are named, or the reason is missing.
    """
    if bool(subject) == bool(request):
        raise InputError("name what to erase: one user or one request", "give --subject USER or --request ID")
    if not why.strip():
        raise InputError("erasing needs a reason", "give it: --why '...'")
    store.database.ensure_operations()
    hashed = KeyedHash(store.files).of_subject(subject)
    images = KeptImages(store.files)
    total = Erased(0, 0, 0, 0, 0)
    for attempt in range(2):
        if attempt:
            time.sleep(1.0)
        total = _add(total, _erase_once(store, images, hashed, request, who or current_user(), why))
    if total.record:
        _empty_log(store.database)
    return total


def _erase_once(store: Store, images: KeptImages, subject: str, request: str, who: str, why: str) -> Erased:
    if subject:
        condition = predictions.c.subject == subject
    else:
        condition = or_(predictions.c.response == request, predictions.c.request == request)
    with store.database.writing() as connection:
        overwrite_removed(connection)
        responses = list(connection.execute(select(predictions.c.response).where(condition)).scalars())
        if not responses:
            return Erased(0, 0, 0, 0, 0)
        # Before the rows: after a kill in between, the same command finds the rows and goes on.
        num_images = images.remove(responses)
        rows = read_feedback(connection, responses)
        for some in in_slices(responses):
            connection.execute(delete(feedback).where(feedback.c.response.in_(some)))
            connection.execute(delete(predictions).where(predictions.c.response.in_(some)))
        details = Tags(
            what="subject" if subject else "request",
            requests=str(len(responses)),
            feedback=str(len(rows)),
            images=str(num_images),
            digest=digest(sorted(responses)),
        )
        record = store.journal.write(connection, Event(ERASED, "request log", who, why, now(), details))
    accepted = sum(item.decision is CorrectionState.ACCEPTED for item in rows)
    return Erased(len(responses), len(rows), num_images, accepted, record.seq)


def overwrite_removed(connection: Connection) -> None:
    """Have SQLite overwrite what this connection removes."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


def _empty_log(database: Database) -> None:
    """Move everything from the log of SQLite into its file, and empty it: it still has the pages as they were."""
    if database.file is not None:
        with database.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _add(first: Erased, second: Erased) -> Erased:
    return Erased(
        first.requests + second.requests,
        first.feedback + second.feedback,
        first.images + second.images,
        first.in_datasets + second.in_datasets,
        second.record or first.record,
    )
