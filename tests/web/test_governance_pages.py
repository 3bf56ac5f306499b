"""``/governance``: what the requirements of frameworks say about each release, checked again on request."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient
from tests.support.released_store import released_store
from tests.web.conftest import BASE

from clerestory.apps.governing import govern_release
from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.store import open_store
from clerestory.web import create_app

ORIGIN = {"origin": BASE}


def test_requirements_are_checked_on_request_and_the_page_is_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    released_store(store, tmp_path / "models", 2)
    with TestClient(create_app(store, None, model="starter"), base_url=BASE, follow_redirects=False) as client:
        page = client.get("/governance").text
        assert page.index("icons@1") < page.index("icons@2"), "the live one first"
        assert page.count("No requirement was checked for this release yet.") == 2
        assert client.get("/governance/icons/1").headers["location"] == "/governance"
        evil = client.post("/governance/icons/1", headers={"origin": "https://evil.example"})
        assert (evil.status_code, store.find_evidence("govern")) == (403, [])

        assert client.post("/governance/icons/1", headers=ORIGIN).headers["location"] == "/governance/icons/1"
        (run,) = store.find_evidence("govern")
        whole = client.get("/governance/icons/1")
        assert whole.headers["content-security-policy"].startswith("default-src 'none'")
        assert "not a compliance determination" in whole.text
        assert "GOVERN 1.1" in whole.text
        page = client.get("/governance").text
        assert f"{run.facts.integer('needs_person')} need a person" in page
        assert run.id in page
        assert "check again" not in page

        store.journal.append(Event("data_added", "x", "ada", "", now()))
        assert "Something was recorded or changed since; check again." in client.get("/governance").text
        assert client.get("/governance/icons/9").status_code == 404
        assert client.post("/governance/nothing/1", headers=ORIGIN).status_code == 404


def test_a_run_of_the_command_whose_page_was_not_kept_is_shown_without_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    released_store(store, tmp_path / "models", 1)
    govern_release(store, "icons@1", "iso-42001")
    with TestClient(create_app(store, None, model="starter"), base_url=BASE, follow_redirects=False) as client:
        page = client.get("/governance").text
        assert "Check again" in page
        assert "Every requirement and its evidence" not in page
        assert client.get("/governance/icons/1").status_code == 303
