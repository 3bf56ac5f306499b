"""What a release page says beyond the decision: who made it live, the policy, the journal, a difference, the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.support.release_life import BOUNDS, Life
from tests.web.conftest import BASE, World, wait_ready
from tests.web.test_evidence_page import text

from clerestory.core.release import Policy
from clerestory.models.starter import starter_folder
from clerestory.report import format
from clerestory.stages.release import promote, register
from clerestory.store import open_store
from clerestory.web import create_app, labels


def test_the_list_of_releases_says_who_made_each_live_and_why(client: TestClient) -> None:
    rows = re.findall(r'<tr role="row"><th scope="row".*?</tr>', client.get("/releases").text, re.DOTALL)
    said = {text(row).split()[0]: text(row) for row in rows}
    assert said["icons@2"].endswith("grace: “it holds every rule”")
    assert said["icons@1"].endswith("nobody")


def test_the_journal_is_cut_with_a_link_to_all_of_it(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    length, _ = world.store.journal.head()
    monkeypatch.setattr("clerestory.web.releases.MAX_RECORDS", 1)
    page = client.get("/releases").text
    assert re.findall(r"record (\d+),", page) == [str(length)]
    (link,) = re.findall(r'href="(/releases\?[^"]*journal=all)#journal"', page)
    assert f"{length - 1} older records, from record 1" in page
    assert re.findall(r"record (\d+),", client.get(link.replace("&amp;", "&")).text) == [
        str(each) for each in range(length, 0, -1)
    ]


def test_a_served_model_that_is_a_release_is_recognised_by_its_digest(tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    starter = store.put_model(starter_folder())
    life = Life(store, tmp_path / "models")
    life.evaluated(starter)
    release = register("icons", life.decide(starter, Policy("icons", BOUNDS)), store, "Ada", "the first")
    with TestClient(create_app(store, None, model="starter"), base_url=BASE) as served:
        wait_ready(served)
        assert "It is the same model as icons@1 , which is not live" in text(served.get("/releases").text)
        promote(release.ref, store, "Eve", f"agreed on {'7' * 64}")
        page = served.get("/releases").text
    store.close()
    assert "It is the same model as icons@1 , which is live (same digest" in text(page)
    assert "no gate has judged it" not in page


def test_a_digest_as_the_subject_of_a_record_is_short() -> None:
    assert labels.subject("a" * 64) == "a" * 12
    assert labels.subject("icons@3") == "icons@3"


def test_the_policy_is_shown_in_full(client: TestClient, world: World) -> None:
    page = client.get(f"/releases/icons/{world.refused.number}").text
    table = text(page[page.index('id="policy"') :])
    for rule in ("pictures found by their caption", "not absurdly slow", "recall@10", "latency_p95", "Nobody waits"):
        assert rule in table
    assert "at least 99 %, also at the lower bound of the interval" in table
    assert "at most 60,000 ms" in table


def test_a_release_is_shown_beside_another(client: TestClient, world: World) -> None:
    address = f"/releases/icons/{world.live.number}"
    plain = client.get(address).text
    (link,) = re.findall(rf'href="({address}\?against=1)#difference"', plain)
    assert "icons@2 beside icons@1" not in plain
    page = text(client.get(link).text)
    assert "“Better” and “worse” are stated only where the two intervals do not overlap" in page
    assert "icons@1 was submitted to the gate on" in page
    for release in (world.live, world.refused):
        (evidence,) = (e for e in map(world.store.evidence, release.evidence) if e.kind == "evaluate")
        found = evidence.find("recall@10", {"task": "text_to_image", "split": "test"})
        assert found is not None
        assert format.of_hundred(found) in page
    assert "clerestory release diff icons@1 icons@2 --report diff.html" in page
    for unknown in ("9", "x", "\N{SUPERSCRIPT TWO}", "99999999999"):
        assert client.get(address, params={"against": unknown}).status_code == 404


def test_the_report_of_a_release_loads_nothing(client: TestClient, world: World) -> None:
    answer = client.get(f"/releases/icons/{world.live.number}/report")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none';")
    assert "connect-src" not in answer.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|<link[^>]* href)=["'](?!data:)""", answer.text)
    assert "icons@2" in answer.text
    assert "Date and signature" in text(answer.text)
    assert client.get("/releases/icons/9/report").status_code == 404
