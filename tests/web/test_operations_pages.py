"""The pages of operators: the state of the service, the channel with its buttons, the whole journal."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.support.released_store import released_store
from tests.web.conftest import BASE, wait_ready

from clerestory.core.codec import Tags
from clerestory.core.release import Event
from clerestory.store import Store, open_store
from clerestory.store.journal_search import JournalFilter, search_journal
from clerestory.store.operations.prediction import Arm, Prediction, RequestKind
from clerestory.web import create_app
from clerestory.web.operations_page import concerns_of, traffic_of

CONFIRMED = {"who": "ada", "why": "a test", "confirmed": "yes"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        released_store(opened, tmp_path, 3)
        yield opened


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    app = create_app(store, None)
    with TestClient(app, base_url=BASE, headers={"origin": BASE}, follow_redirects=False) as made:
        wait_ready(made)
        yield made


def generation(client: TestClient) -> str:
    found = re.search(r'name="generation" value="(\d+)"', client.get("/channel/icons").text)
    assert found is not None
    return found.group(1)


def test_the_whole_way_of_a_release_by_buttons(client: TestClient, store: Store) -> None:
    form = {"do": "promote", "number": "2", "generation": generation(client), **CONFIRMED}
    answer = client.post("/channel/icons", data=form)
    assert answer.status_code == 303, answer.text
    assert "icons@2 is live now" in client.get(answer.headers["location"]).text
    assert store.alias("icons", "live").number == 2  # type: ignore[union-attr]
    event = store.journal.records("icons@2", limit=1)[0].event
    assert (event.kind, event.who, event.why) == ("promoted", "ada", "a test")

    stale = client.post("/channel/icons", data={**form, "number": "3"})
    assert stale.status_code == 409
    assert store.alias("icons", "live").number == 2  # type: ignore[union-attr]

    back = client.post("/channel/icons", data={"do": "rollback", "generation": generation(client), **CONFIRMED})
    assert back.status_code == 303
    assert store.alias("icons", "live").number == 1  # type: ignore[union-attr]


def test_a_canary_by_buttons(client: TestClient) -> None:
    form = {"do": "canary", "number": "2", "generation": generation(client), **CONFIRMED}
    assert client.post("/channel/icons", data=form).status_code == 303
    page = client.get("/channel/icons").text
    assert "Being tried: icons@2" in page
    assert "5 % of the requests" in page
    assert "icons@2 is being tried beside icons@1" in client.get("/operations").text
    assert client.post("/channel/icons", data={"do": "pause", **CONFIRMED}).status_code == 303
    assert "Resume" in client.get("/channel/icons").text
    assert client.post("/channel/icons", data={"do": "abort", **CONFIRMED}).status_code == 303
    page = client.get("/channel/icons").text
    assert "Being tried" not in page
    assert "Tried before" in page


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"confirmed": ""}, 400),
        ({"why": " "}, 400),
        ({"number": "99"}, 404),
        ({"number": "x"}, 400),
        ({"do": "format"}, 400),
        ({"generation": "9"}, 409),
        ({"generation": ""}, 400),
    ],
)
def test_a_step_that_is_not_complete_changes_nothing(
    client: TestClient, store: Store, change: dict[str, str], status: int
) -> None:
    form = {"do": "promote", "number": "2", "generation": generation(client), **CONFIRMED, **change}
    assert client.post("/channel/icons", data=form).status_code == status
    assert store.alias("icons", "live").number == 1  # type: ignore[union-attr]


def test_a_form_of_another_site_is_rejected(client: TestClient, store: Store) -> None:
    form = {"do": "promote", "number": "2", "generation": generation(client), **CONFIRMED}
    answer = client.post("/channel/icons", data=form, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert store.alias("icons", "live").number == 1  # type: ignore[union-attr]


def test_the_journal_is_filtered_and_paged(client: TestClient, store: Store) -> None:
    for i in range(120):
        who, when = ("bob", "2026-01-02") if i % 2 else ("Ada", "2026-03-04")
        store.journal.append(Event("noted", f"thing/{i}", who, "<b>", f"{when}T00:00:00+00:00", Tags(n=str(i))))
    found = search_journal(store, JournalFilter(who="ada", since="2026-03-01", until="2026-03-04"), limit=50)
    assert [each.event.subject for each in found.records[:2]] == ["thing/118", "thing/116"]
    rest = search_journal(store, JournalFilter(who="ada", since="2026-03-01", until="2026-03-04"), found.before)
    assert len(found.records) + len(rest.records) == 60
    assert rest.before == 0
    page = client.get("/journal?kind=noted&who=bob").text
    assert "thing/119" in page
    assert "thing/118" not in page
    assert "&lt;b&gt;" in page
    assert "Intact." in page
    older = re.search(r'href="(/journal\?before=[^"]+)"', page)
    assert older is not None
    assert "thing/19" in client.get(older.group(1).replace("&amp;", "&")).text
    assert client.get("/journal?before=x&since=nonsense&kind=" + "a" * 500).status_code == 200


def test_a_record_has_a_page_with_its_hash(client: TestClient, store: Store) -> None:
    record = store.journal.records(limit=1)[0]
    page = client.get(f"/journal/{record.seq}").text
    assert record.hash in page
    assert record.previous in page
    assert "Intact." in page
    assert client.get("/journal/99999").status_code == 404


def test_figures_of_the_traffic() -> None:
    at = time.time()
    one = Prediction("resp_1", "req_1", at - 1, RequestKind.EMBEDDINGS, "icons", 1, "m", latency_s=0.01)
    many = [
        replace(one, response=f"resp_{i}", latency_s=i / 1000, status=500 if i > 97 else 200) for i in range(1, 101)
    ]
    traffic = traffic_of([*many, replace(one, number=2, arm=Arm.CANDIDATE)], at)
    assert (traffic.requests, traffic.failed) == (101, 3)
    assert traffic.versions[0].version == "icons@1"
    assert traffic.versions[0].median_ms == pytest.approx(51)
    assert traffic.versions[1].arm == "candidate"
    texts = [each.text for each in concerns_of(traffic, [], [], 2, 400.0, "it cannot be loaded")]
    assert texts == [
        "3.0 % of the requests failed in the last 15 minutes",
        "it cannot be loaded",
        "2 notifications wait, the oldest for 7 minutes",
    ]
    assert concerns_of(traffic_of([], at), [], [], 0, 0.0, "") == []


def test_the_state_on_one_screen(client: TestClient) -> None:
    page = client.get("/operations")
    assert "All is well" in page.text
    assert "refresh" not in page.headers
    assert client.get("/operations?refresh=1").headers["refresh"] == "10"
