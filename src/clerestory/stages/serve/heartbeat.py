"""Tells the store twice a second what a server reads, serves and loads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from clerestory.core.errors import ClerestoryError
from clerestory.store import Store
from clerestory.store.operations.servers import HEARTBEAT_SECONDS, ServerStatus, beat, remove_server

LOG = logging.getLogger("clerestory.serve")


class Heartbeat:
    """A thread that writes the state of a server until it is closed; what cannot be written is dropped and counted.

    Args:
        store: receives the state.
        status: the state as it is now; must not wait for anything.
    """

    def __init__(self, store: Store, status: Callable[[], ServerStatus]) -> None:
        self._store, self._status = store, status
        self.dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, and remove the server from the list."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(ClerestoryError), self._store.database.writing() as connection:
            remove_server(connection, self._status().id)

    def _run(self) -> None:
        while True:
            self.write()
            if self._closing.wait(HEARTBEAT_SECONDS):
                return

    def write(self) -> None:
        """Write one heartbeat."""
        status = replace(self._status(), seen=time.time(), dropped=self.dropped)
        try:
            self._store.database.ensure_operations()
            with self._store.database.writing() as connection:
                beat(connection, status)
        except ClerestoryError as error:
            self.dropped += 1
            if self.dropped == 1:
                LOG.warning("heartbeats are dropped: %s", error.message)
        except Exception:  # a server goes on without them
            self.dropped += 1
            if self.dropped == 1:
                LOG.exception("heartbeats are dropped")
