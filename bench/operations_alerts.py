"""From an alert to the webhook of a real Alertmanager (Debian: prometheus-alertmanager).

python bench/operations_alerts.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.alertmanager import PROGRAM, alertmanager
from tests.support.receivers import web_receiver

from clerestory.stages.watch.incident_policy import load_incident_policy
from clerestory.stages.watch.notify.config import NotifyChannel
from clerestory.stages.watch.notify.delivery import Deliverer
from clerestory.store import open_store
from clerestory.store.operations.incidents import Alert, AlertKind, open_or_update
from table import Row, measure

ALERTS, BAR_S = 20, 5.0


def to_alertmanager() -> Iterable[Row]:
    """The time from the alarm to the receiver, through the outbox, the policy, the channel and Alertmanager."""
    if PROGRAM is None:
        print("Alertmanager is not installed: apt-get install prometheus-alertmanager", file=sys.stderr)
        return
    seconds = []
    with tempfile.TemporaryDirectory() as name, web_receiver() as receiver:
        folder = Path(name)
        with alertmanager(folder, receiver.url) as url, open_store(folder / "home") as store:
            channel = NotifyChannel("manager", "alertmanager", url, allow_private=True)
            deliverer = Deliverer(store, (channel,), load_incident_policy())
            deliverer.start()
            try:
                for i in range(ALERTS):
                    begun = time.time()
                    open_or_update(store, Alert(AlertKind.DRIFT, "inputs have changed", "icons", f"style={i}"))
                    seconds.append(receiver.wait_for(i + 1)[i].at - begun)
            finally:
                deliverer.close()
    worst, median = max(seconds), statistics.median(seconds)
    bar = f"≤ {BAR_S:g} s, the slowest"
    note = f"median {median:.2f} s, slowest {worst:.2f} s"
    yield Row("drift alarm to the webhook of Alertmanager", worst, "s", bar, worst <= BAR_S, len(seconds), note=note)


if __name__ == "__main__":
    sys.exit(measure("operations_alerts", {"alertmanager": to_alertmanager}, sys.argv[1:]))
