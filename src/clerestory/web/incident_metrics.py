"""Incidents and waiting notifications as metrics: the same from every server of a store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clerestory.core.errors import ClerestoryError
from clerestory.store import Store
from clerestory.store.operations.incidents import SEVERITIES, incidents
from clerestory.store.operations.outbox import oldest_waiting


class IncidentCollector(Collector):
    """Reads the store when the metrics are collected; they are left out while it cannot be read.

    Args:
        store: has the incidents.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        try:
            counts = Counter(each.severity for each in incidents(self._store, unresolved=True))
            with self._store.database.reading() as connection:
                waiting, since = oldest_waiting(connection)
        except ClerestoryError:
            return
        opened = GaugeMetricFamily(
            "clerestory_incidents_open", "Incidents that are not resolved.", labels=("severity",)
        )
        for severity in SEVERITIES:
            opened.add_metric((severity.value,), counts[severity])
        yield opened
        yield GaugeMetricFamily(
            "clerestory_notifications_waiting", "Notifications that are not delivered yet.", waiting
        )
        age = max(0.0, time.time() - since) if waiting else 0.0
        yield GaugeMetricFamily("clerestory_notification_age_seconds", "How long the oldest of them has waited.", age)
