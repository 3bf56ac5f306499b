"""The pages of incidents: states, forms with a reason, runbook, clocks and the draft of a postmortem."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from starlette.testclient import TestClient
from tests.web.conftest import BASE
from tests.web.small_server import running

from clerestory.core.codec import Tags
from clerestory.stages.serve.access_config import AccessConfig
from clerestory.stages.watch.clocks import start_clock
from clerestory.stages.watch.incident_policy import load_incident_policy
from clerestory.stages.watch.recovery import CLEARED_SINCE
from clerestory.store import Store, open_store
from clerestory.store.operations.api_keys import KeyScope, create_key
from clerestory.store.operations.incidents import (
    Alert,
    AlertKind,
    IncidentState,
    incident,
    note,
    open_or_update,
    timeline,
    transition,
)
from clerestory.store.operations.silences import silence
from clerestory.web import create_app
from clerestory.web.serve_config import ServeConfig

HOSTILE = '<script>alert("x")</script>'


@dataclass(frozen=True)
class Pages:
    store: Store
    client: TestClient


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    with open_store(tmp_path / "home") as store:
        alert = Alert(AlertKind.DRIFT, f"inputs {HOSTILE} changed", "icons", "icons@1", details=Tags(distance="0.5"))
        open_or_update(store, alert)
        open_or_update(store, alert)
        start_clock(store, 1, load_incident_policy().reporting_duty("gdpr-33"), "Ada", "faces")
        silence(store, Tags(kind="drift"), 1, "Ada", "a campaign")
        open_or_update(store, Alert(AlertKind.DISK, "the disk is nearly full"))
        transition(store, 2, IncidentState.RESOLVED, "Ada", "cleaned")
        app = create_app(store, None, model="starter")
        yield Pages(store, TestClient(app, base_url=BASE, headers={"origin": BASE}, follow_redirects=False))


def test_a_condition_that_cleared_is_shown(pages: Pages) -> None:
    sentence = "What caused it no longer holds since"
    assert sentence not in pages.client.get("/incidents/1").text
    since = incident(pages.store, 1).last_seen + 5
    note(pages.store, 1, "it is gone", details=Tags({CLEARED_SINCE: str(since)}))
    assert sentence in pages.client.get("/incidents/1").text
    open_or_update(pages.store, Alert(AlertKind.DRIFT, "again", "icons", "icons@1", at=since + 1))
    assert sentence not in pages.client.get("/incidents/1").text


def test_the_list_and_an_incident_say_what_is_known(pages: Pages) -> None:
    listed = pages.client.get("/incidents")
    assert listed.status_code == 200
    assert "1 incident is not resolved" in listed.text
    shown = pages.client.get("/incidents/1").text
    for words in ("nobody takes care", " left", "not legal advice", "have drifted", "Nobody is notified", "2 times"):
        assert words in shown, words
    assert HOSTILE not in shown + listed.text
    assert pages.client.get("/incidents/9").status_code == 404
    assert pages.client.get("/incidents/99999999999999999999").status_code == 404


def test_a_form_changes_the_state_with_person_and_reason(pages: Pages) -> None:
    seen = str(incident(pages.store, 1).generation)
    form = {"do": "acknowledged", "who": "Ada", "why": "looking", "generation": seen}
    assert pages.client.post("/incidents/1", data=form).status_code == 303
    second = pages.client.post("/incidents/1", data={**form, "who": "Grace", "why": "mine"})
    assert second.status_code == 409
    assert "Ada" in second.text
    assert 'value="mine"' in second.text  # what was written stays
    assert pages.client.post("/incidents/1", data={"do": "resolved", "who": "Ada", "why": " "}).status_code == 400
    assert pages.client.post("/incidents/1", data={"do": "explode", "who": "Ada", "why": "x"}).status_code == 400
    assert pages.client.post("/incidents/1", data={"do": "note", "who": "Ada", "why": "a remark"}).status_code == 303
    last = timeline(pages.store, 1)[-1]
    assert (last.who, last.why) == ("Ada", "a remark")


def test_a_form_of_another_site_changes_nothing(pages: Pages) -> None:
    form = {"do": "resolved", "who": "Eve", "why": "x"}
    answer = pages.client.post("/incidents/1", data=form, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert incident(pages.store, 1).state is IncidentState.OPEN


def test_the_draft_of_a_postmortem_is_a_file(pages: Pages) -> None:
    answer = pages.client.get("/incidents/1/postmortem.md")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert "# Incident 1" in answer.text
    assert "&lt;script>" in answer.text


@pytest.mark.browser
def test_the_pages_are_accessible_on_a_phone_and_without_javascript(pages: Pages) -> None:
    app = create_app(pages.store, None, model="starter", config=ServeConfig())
    with running(app) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        phone = browser.new_page(viewport={"width": 390, "height": 844})
        for path in ("/incidents", "/incidents/1"):
            phone.goto(base + path)
            assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert Axe().run(phone).violations_count == 0, path
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(f"{base}/incidents/1")
        plain.fill("#who", "Ada")
        plain.fill("#why", "looking")
        plain.get_by_role("button", name="I take care of it").click()
        assert plain.get_by_role("status").first.is_visible()
        browser.close()
    assert incident(pages.store, 1).state is IncidentState.ACKNOWLEDGED
    assert incident(pages.store, 1).updated <= time.time()


def test_who_has_a_key_acts_in_its_name(tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        open_or_update(store, Alert(AlertKind.DISK, "the disk is nearly full"))
        key = create_key(store, "Grace", [KeyScope.ADMIN], "Ada", "on call").secret
        app = create_app(store, None, model="starter", config=ServeConfig(access=AccessConfig(keys="required")))
        client = TestClient(app, base_url=BASE, headers={"origin": BASE, "authorization": f"Bearer {key}"})
        page = client.get("/incidents/1")
        assert "You act as <b>Grace</b>" in page.text
        client.post("/incidents/1", data={"do": "note", "who": "Mallory", "why": "seen", "generation": "1"})
        assert timeline(store, 1)[-1].who == "Grace"
