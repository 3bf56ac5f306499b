"""From an alert to the webhook of a real Alertmanager, through the outbox and through a real Prometheus that scrapes.

Needs prometheus and prometheus-alertmanager (Debian).

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
from tests.support.prometheus import PROMETHEUS, prometheus
from tests.support.receivers import WebReceiver, web_receiver
from tests.support.released_store import released_store
from tests.support.server_process import server_process

from clerestory.stages.watch.alert_rules import alerting_rules, rules_file
from clerestory.stages.watch.checks import IncidentConfig
from clerestory.stages.watch.incident_policy import load_incident_policy
from clerestory.stages.watch.notify.config import NotifyChannel
from clerestory.stages.watch.notify.delivery import Deliverer
from clerestory.store import open_store
from clerestory.store.operations.incidents import (
    Alert,
    AlertKind,
    IncidentSeverity,
    IncidentState,
    open_or_update,
    transition,
)
from table import Row, measure

ALERTS, BAR_S = 20, 5.0
SCRAPED, SCRAPED_BAR_S = 5, 10.0
RULE = "ClerestoryCriticalIncident"


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


def scraped() -> Iterable[Row]:
    """The time from an incident to the receiver through Prometheus, which scrapes and evaluates every second."""
    if PROGRAM is None or PROMETHEUS is None:
        print("install both: apt-get install prometheus prometheus-alertmanager", file=sys.stderr)
        return
    seconds = []
    with tempfile.TemporaryDirectory() as name, web_receiver() as receiver:
        folder = Path(name)
        rules = folder / "rules.yml"
        rules.write_text(rules_file(alerting_rules(IncidentConfig())), encoding="utf-8")
        with open_store(folder / "home") as store:
            released_store(store, folder / "models", 1)
            with (
                server_process(folder / "home") as (_, client),
                alertmanager(folder, receiver.url) as manager,
                prometheus(folder, str(client.base_url), manager, rules),
            ):
                for i in range(SCRAPED):
                    begun = time.time()
                    alert = Alert(AlertKind.REPORTED, "a bench", "icons", str(i), IncidentSeverity.CRITICAL)
                    opened = open_or_update(store, alert)
                    seconds.append(_wait_for(receiver, "firing", begun) - begun)
                    solved = time.time()
                    transition(store, opened.number, IncidentState.RESOLVED, "ada", "the end of a round")
                    _wait_for(receiver, "resolved", solved)
    worst, median = max(seconds), statistics.median(seconds)
    bar = f"≤ {SCRAPED_BAR_S:g} s, the slowest"
    note = f"median {median:.2f} s, slowest {worst:.2f} s; scrape and evaluation every second"
    yield Row(
        "incident to the webhook by /metrics, Prometheus and Alertmanager",
        worst, "s", bar, worst <= SCRAPED_BAR_S, len(seconds), note=note,
    )  # fmt: skip


def _wait_for(receiver: WebReceiver, status: str, since: float) -> float:
    """When the alert of an incident first came with this status."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        for each in list(receiver.received):
            alerts = [a for a in each.json["alerts"] if a["labels"].get("alertname") == RULE]
            if each.at >= since and any(a["status"] == status for a in alerts):
                return each.at
        time.sleep(0.02)
    raise TimeoutError(f"no alert that is {status}")


if __name__ == "__main__":
    sys.exit(measure("operations_alerts", {"alertmanager": to_alertmanager, "scraped": scraped}, sys.argv[1:]))
