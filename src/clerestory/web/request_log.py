"""The request log of a server: an observer of answered requests, the keyed hashes, and the images kept with consent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from clerestory.core.errors import NotWritable
from clerestory.core.settings import Range, check_settings
from clerestory.store import Store
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.keyed_hash import KeyedHash
from clerestory.store.operations.prediction import Prediction, RequestKind
from clerestory.store.operations.recorder import MAX_WAITING, Recorder
from clerestory.store.operations.retention import RetentionSettings, remove_expired
from clerestory.web.observers import Embeddings

LOG = logging.getLogger("clerestory.web")
KEEPING = frozenset({RequestKind.CAPTION, RequestKind.CLASSIFY, RequestKind.ANSWER})
MAX_KEEPING = 16  # images on their way to the disk; further ones are not kept


@dataclass(frozen=True, slots=True)
class FeedbackConfig:
    """What people say about answers.

    Attributes:
        retention_days: how long feedback and kept images are stored.
        keep_images: keep the images that callers send for captions and labels, so that a corrected one can become a
            sample of a dataset; off unless you turn it on, and only with the consent of the people who send them.
    """

    retention_days: Annotated[int, Range(1, 3_650)] = 365
    keep_images: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


class RequestLog:
    """Writes the record of each answered request, and feedback; see ``Recorder``.

    Args:
        store: receives them.
        requests_days: how long the rows of requests are stored.
        max_waiting: the length of the queue.
        feedback: the settings of feedback.

    Attributes:
        recorder: the thread that writes.
        images: kept images.
    """

    def __init__(
        self,
        store: Store,
        requests_days: int = 30,
        max_waiting: int = MAX_WAITING,
        feedback: FeedbackConfig | None = None,
    ) -> None:
        feedback = feedback or FeedbackConfig()
        self._store = store
        self._retention = RetentionSettings(requests_days, feedback.retention_days)
        self.keep_images = feedback.keep_images
        self.images = KeptImages(store.files)
        self.recorder = Recorder(store.database, self._remove_expired, max_waiting)
        self._keyed: KeyedHash | None = None
        self._keeping = threading.Semaphore(MAX_KEEPING)
        self._thread: ThreadPoolExecutor | None = None

    @property
    def keyed(self) -> KeyedHash | None:
        """The keyed hashes of the store; None while the key cannot be made, as on a read-only disk."""
        if self._keyed is None:
            with suppress(NotWritable):
                self._keyed = KeyedHash(self._store.files)
        return self._keyed

    def hash_of(self, kind: str, *parts: str | bytes) -> str:
        """The keyed hash of an input; empty without a key: never one that others could guess."""
        return self.keyed.of_all(kind, parts) if self.keyed and parts else ""

    def subject(self, user: str) -> str:
        """The keyed hash of a user id; empty for an empty one."""
        return self.keyed.of_subject(user) if self.keyed else ""

    def caption(self, text: str) -> str:
        """The keyed hash of a caption, for the label of a prediction."""
        return self.keyed.of_caption(text) if self.keyed else ""

    def start(self) -> None:
        """Make the key."""
        _ = self.keyed

    def observe(self, prediction: Prediction, embeddings: Embeddings | None, images: Sequence[bytes]) -> None:
        """Queue the record of a request; and its image, where that is to be kept."""
        self.recorder.observe(prediction)
        if self.keep_images and prediction.kind in KEEPING and prediction.status < 400 and len(images) == 1:
            self.keep(prediction.response, images[0])

    def keep(self, response: str, content: bytes) -> None:
        """Keep an image, in a thread; not if too many are on their way."""
        if not self.keep_images or not self._keeping.acquire(blocking=False):
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "kept-images")
        self._thread.submit(self._keep, response, content)

    def _keep(self, response: str, content: bytes) -> None:
        try:
            self.images.keep(response, content)
        except OSError as error:
            LOG.warning("the image of %s was not kept: %s", response, error.strerror or error)
        finally:
            self._keeping.release()

    def close(self) -> None:
        """Write what waits."""
        self.recorder.close()
        if self._thread is not None:
            self._thread.shutdown(wait=True)

    def _remove_expired(self) -> bool:
        self._store.database.ensure_operations()
        now = time.time()
        self.images.remove_before(now - self._retention.feedback_days * 86_400)
        return remove_expired(self._store.database, self.images, self._retention, now) > 0
