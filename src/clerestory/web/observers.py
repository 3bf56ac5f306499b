"""Observers of answered requests, such as the request log, guardrails and drift."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clerestory.store.operations.prediction import Prediction

LOG = logging.getLogger("clerestory.web")
Embeddings = NDArray[np.float32]


class PredictionObserver(Protocol):
    """Receives the record of each answered request, right after the last byte of its response."""

    def start(self) -> None:
        """Called once, before the first request."""

    def observe(self, prediction: Prediction, embeddings: Embeddings | None, images: Sequence[bytes]) -> None:
        """Take in one request; called by the event loop, so it must return at once: no file, no database, no lock.

        Args:
            prediction: the record.
            embeddings: the unit rows (N, D) of its inputs; None if there are none. Not to be changed.
            images: the images of the request as they were sent.
        """

    def close(self) -> None:
        """Called once, after the last request, in a thread: finish all writing."""


class ObserverList:
    """The observers of one server; the failure of one is logged once and does not concern the others or the request."""

    def __init__(self) -> None:
        self._observers: list[PredictionObserver] = []
        self._failed: set[int] = set()

    def __len__(self) -> int:
        return len(self._observers)

    def append(self, observer: PredictionObserver) -> None:
        """Add an observer; before the server starts."""
        self._observers.append(observer)

    def start(self) -> None:
        """Start all of them; the error of one that cannot start is its own, the server does not start either."""
        for each in self._observers:
            each.start()

    def observe(self, prediction: Prediction, embeddings: Embeddings | None, images: Sequence[bytes]) -> None:
        """Tell every observer of one request."""
        for each in self._observers:
            try:
                each.observe(prediction, embeddings, images)
            except Exception:
                self._report(each)

    def close(self) -> None:
        """Close all of them, the last one first."""
        for each in reversed(self._observers):
            try:
                each.close()
            except Exception:
                self._report(each)

    def _report(self, observer: PredictionObserver) -> None:
        if id(observer) not in self._failed:
            self._failed.add(id(observer))
            LOG.exception("%s failed; further failures of it are not logged", type(observer).__name__)
