"""``/metrics`` and the access log: what they say, that they are valid, and that their size is bounded."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from clerestory.store.operations.incidents import (
    Alert,
    AlertKind,
    IncidentSeverity,
    IncidentState,
    open_or_update,
    transition,
)
from clerestory.web.access_log import AccessLog
from clerestory.web.metrics import MAX_VERSIONS, CountedValues
from clerestory.web.request_trace import RequestTrace


def values(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = client.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def test_a_request_is_counted_by_route_status_version_and_arm(client: TestClient) -> None:
    before = values(client)
    assert client.post("/v1/embeddings", json={"input": "a cat"}).status_code == 200
    assert client.get("/v1/nothing/at/all").status_code == 404
    after = values(client)
    version = client.get("/readyz").json()["served"]
    embedded = {"route": "/v1/embeddings", "method": "POST", "status": "200", "version": version, "arm": "stable"}
    unknown = {"route": "other", "method": "GET", "status": "404", "version": "", "arm": ""}
    for labels in (embedded, unknown):
        key = ("clerestory_requests_total", tuple(sorted(labels.items())))
        assert after[key] == before.get(key, 0) + 1
    batches = ("clerestory_batch_inputs_count", ())
    assert after[batches] > before.get(batches, 0)
    assert after[("clerestory_ready", ())] == 1


def test_routes_of_strangers_and_many_versions_make_no_further_series(client: TestClient) -> None:
    for i in range(20):
        client.get(f"/nothing-{i}")
        client.request(f"METHOD{i}", "/healthz")
    routes = {dict(labels).get("route", "") for _, labels in values(client)}
    methods = {dict(labels).get("method", "") for _, labels in values(client)}
    assert not any("nothing" in route for route in routes)
    assert not any(method.startswith("METHOD") for method in methods)
    assert MAX_VERSIONS < 100


def test_a_histogram_is_cumulative() -> None:
    counted = CountedValues((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        counted.add(value)
    assert counted.buckets == [("1", 2), ("2", 3), ("+Inf", 4)]
    assert counted.total == 12.0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_complain_about(client: TestClient) -> None:
    client.post("/v1/embeddings", json={"input": "a cat"})
    text = client.get("/metrics").text
    result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_access_log_has_a_line_for_each_request_and_follows_a_rotation(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = AccessLog(str(file))
    log.start()
    trace = RequestTrace("req_1")
    trace.status, trace.sent = 200, 12
    log.add("/v1/embeddings", "POST", trace, 0.0123)
    until = threading.Event()
    for _ in range(400):
        if file.stat().st_size:
            break
        until.wait(0.05)
    file.rename(tmp_path / "old.log")
    log.add("/", "GET", RequestTrace("req_2"), 0.1)
    log.close()
    (first,) = (tmp_path / "old.log").read_text("utf-8").splitlines()
    (second,) = file.read_text("utf-8").splitlines()
    expected = {"request": "req_1", "route": "/v1/embeddings", "method": "POST", "status": 200, "ms": 12.3, "bytes": 12}
    assert json.loads(first).items() >= expected.items()
    assert json.loads(second)["request"] == "req_2"


def test_open_incidents_and_waiting_notifications_are_metrics(client: TestClient) -> None:
    store = client.app.state.server.store  # type: ignore[attr-defined]  # of the application
    critical = ("clerestory_incidents_open", (("severity", "critical"),))
    before = values(client)[critical]
    alert = Alert(AlertKind.REPORTED, "a test of metrics", severity=IncidentSeverity.CRITICAL)
    opened = open_or_update(store, alert)
    assert values(client)[critical] == before + 1
    assert values(client)[("clerestory_notifications_waiting", ())] >= 0
    transition(store, opened.number, IncidentState.RESOLVED, "ada", "tested")
    assert values(client)[critical] == before
