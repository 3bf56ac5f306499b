"""Alerting rules that promtool accepts, and a real Alertmanager that receives an incident and hands it on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.alertmanager import PROGRAM, alertmanager
from tests.support.receivers import web_receiver

from clerestory.core.codec import Tags
from clerestory.stages.watch.alert_rules import alerting_rules, rules_file
from clerestory.stages.watch.checks import IncidentConfig
from clerestory.stages.watch.incident_policy import load_incident_policy
from clerestory.stages.watch.notify.config import NotifyChannel
from clerestory.stages.watch.notify.delivery import Deliverer
from clerestory.store import open_store
from clerestory.store.operations.incidents import Alert, AlertKind, IncidentState, open_or_update, transition

PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(rules_file(alerting_rules(IncidentConfig())), encoding="utf-8")
    assert PROMTOOL is not None
    checked = subprocess.run([PROMTOOL, "check", "rules", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "8 rules found" in checked.stdout


@pytest.mark.skipif(PROGRAM is None, reason="Alertmanager is not installed (Debian: prometheus-alertmanager)")
def test_a_real_alertmanager_hands_an_incident_on_and_its_end(tmp_path: Path) -> None:
    with web_receiver() as receiver, alertmanager(tmp_path, receiver.url) as url, open_store(tmp_path / "h") as store:
        channel = NotifyChannel("manager", "alertmanager", url, allow_private=True)
        deliverer = Deliverer(store, (channel,), load_incident_policy())
        deliverer.start()
        try:
            open_or_update(store, Alert(AlertKind.DRIFT, "inputs have changed", "icons", details=Tags(distance="0.5")))
            firing = receiver.wait_for(1)[0].json
            transition(store, 1, IncidentState.RESOLVED, "Ada", "over")
            resolved = receiver.wait_for(2)[-1].json
        finally:
            deliverer.close()
    assert (firing["status"], resolved["status"]) == ("firing", "resolved")
    assert firing["alerts"][0]["labels"]["alertname"] == "Clerestory_drift"
    assert firing["alerts"][0]["fingerprint"] == resolved["alerts"][0]["fingerprint"]
