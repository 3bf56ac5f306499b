"""The pages of whole reports, built once for each state of the store: building one takes seconds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from clerestory.store import Store

MAX_CHARACTERS = 8_000_000


class ReportCache:
    """Reports in memory; the least recently read are dropped beyond ``max_characters``.

    Args:
        max_characters: of all reports together; a longer one is built at every visit.
    """

    def __init__(self, max_characters: int = MAX_CHARACTERS) -> None:
        self.max_characters = max_characters
        self._built: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, store: Store, ref: str, build: Callable[[], str]) -> str:
        """The report of a release: as it was built, until the store has changed; concurrent visits wait for one build.

        Args:
            store: of the release.
            ref: the release.
            build: makes the report.
        """
        with self._lock:
            key = (ref, store.revision())
            if key not in self._built:
                report = build()
                for old in [each for each in self._built if each[1] != key[1]]:
                    del self._built[old]
                self._built[key] = report
                while self._built and sum(map(len, self._built.values())) > self.max_characters:
                    self._built.popitem(last=False)
                return report
            self._built.move_to_end(key)
            return self._built[key]
