"""``/data``: what an audit says of each dataset, and a person's decisions: accept, withdraw, fix."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from starlette.testclient import TestClient
from tests.support.faulty_data import VALUES, faulty_data
from tests.web.conftest import BASE
from tests.web.small_server import running
from tests.web.test_browser import CHROMIUM, FLAGS

from clerestory.apps.datasets import add_dataset
from clerestory.core.files import write_atomic
from clerestory.data import open_data
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.run import audit, read_audit
from clerestory.store import Store, open_store
from clerestory.store.acceptances import today
from clerestory.web import create_app

LATER = (today() + timedelta(days=30)).isoformat()
ORIGIN = {"origin": BASE}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with an audited dataset, ``shop``, and one that nobody audited, ``other``."""
    folder = tmp_path / "shop"
    folder.mkdir()
    data = faulty_data()
    lines = ["file_name\tcaption\tsplit"]
    for number, sample in enumerate(data):
        write_atomic(folder / f"{number:02d}.jpg", data.read(sample), tmp_path)
        lines.append(f"{number:02d}.jpg\t{sample.caption}\t{sample.split}")
    (folder / "captions.tsv").write_text("\n".join(lines), encoding="utf-8")
    store = open_store(tmp_path / "home")
    add_dataset(store, str(folder), "shop")
    add_dataset(store, str(folder), "other", new_splits=True)
    opened = open_data(str(folder))
    opened.name = "shop"
    audit(opened, store, AuditConfig(min_sharpness=0.2))
    return store


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    with TestClient(create_app(store, None, model="starter"), base_url=BASE, follow_redirects=False) as client:
        yield client


def post(client: TestClient, **form: str) -> tuple[int, str]:
    answer = client.post("/data/shop", data=form, headers=ORIGIN)
    return answer.status_code, answer.headers.get("location", answer.text)


def test_every_dataset_says_whether_anything_is_wrong_with_it(client: TestClient) -> None:
    page = client.get("/data").text
    assert "problems" in page
    assert page.count("Not audited") == 1
    shop = client.get("/data/shop").text
    assert "Payment card number in a caption" in shop
    assert 'href="/data/shop/audit#clr-a032"' in shop
    assert "clerestory data audit other" in client.get("/data/other").text
    assert client.get("/data/none").status_code == 404


def test_no_page_shows_personal_data(client: TestClient) -> None:
    for path in ("/data", "/data/shop", "/data/shop/audit"):
        page = client.get(path).text
        assert not [value for value in VALUES if value in page], path


def test_the_contact_sheets_are_those_of_the_stored_audit(client: TestClient, store: Store) -> None:
    page = client.get("/data/shop/audit")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "min_sharpness = 0.2" in page.text, "the settings that it was made with"
    assert page.text.count("<img ") > 5
    assert client.get("/data/other/audit").status_code == 404
    row = next(row for row in store.datasets() if row.name == "shop")
    (evidence,) = store.find_evidence("audit", data=row.digest)
    result, config = read_audit(evidence, store)
    assert config == AuditConfig(min_sharpness=0.2)
    of_source = len(evidence.findings) - len(result.detections)
    assert tuple(each.finding() for each in result.detections) == evidence.findings[of_source:]


def test_a_person_accepts_a_finding_and_withdraws_it(client: TestClient, store: Store) -> None:
    code, place = post(client, do="accept", code="CLR-A014", who="Ana", why="they are meant", expires=LATER)
    assert (code, place) == (303, "/data/shop?done=accepted")
    page = client.get("/data/shop").text
    assert "Accepted by Ana until" in page
    assert "they are meant" in page
    event = store.journal.records()[-1].event
    assert (event.kind, event.who, event.why) == ("finding_accepted", "Ana", "they are meant")
    assert "they are meant" in client.get("/data/shop/audit").text
    assert post(client, do="withdraw", code="CLR-A014", who="Ben", why="no")[0] == 303
    assert "Accepted by Ana" not in client.get("/data/shop").text


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"do": "accept", "code": "CLR-A014", "why": " ", "expires": LATER}, "needs a reason"),
        ({"do": "accept", "code": "CLR-A014", "why": "x", "expires": "2020-01-01"}, "2020-01-01"),
        ({"do": "accept", "code": "CLR-A014", "why": "x", "expires": "soon"}, "soon"),
        ({"do": "accept", "code": "CLR-A999", "why": "x", "expires": LATER}, "CLR-A999"),
        ({"do": "withdraw", "code": "CLR-A014", "why": "x"}, "no such acceptance"),
        ({"do": "fix", "why": "x", "name": "new"}, "no fix is chosen"),
        ({"do": "fix", "fix-CLR-A014": "yes", "why": "", "name": "new"}, "needs a reason"),
        ({"do": "fix", "fix-CLR-A014": "yes", "why": "x", "name": "a/b"}, "cannot be the name"),
        ({"do": "fix", "fix-CLR-A014": "yes", "why": "x", "name": "shop"}, "there is a dataset"),
        ({"do": "dance"}, "dance"),
        ({}, "the form asks for"),
    ],
)
def test_a_refused_form_says_why_and_changes_nothing(
    client: TestClient, store: Store, form: dict[str, str], sentence: str
) -> None:
    before = store.journal.head()
    answer = client.post("/data/shop", data={**form, "who": "Ana"}, headers=ORIGIN)
    assert answer.status_code in (400, 404)
    assert sentence.casefold() in answer.text.casefold()
    assert store.journal.head() == before


def test_what_was_written_stays_in_a_refused_form(client: TestClient) -> None:
    form = {"do": "accept", "code": "CLR-A014", "who": "Ana", "why": "a long reason", "expires": "2020-01-01"}
    page = client.post("/data/shop", data=form, headers=ORIGIN).text
    assert 'value="a long reason"' in page
    assert 'value="Ana"' in page


def test_a_form_of_another_site_is_refused(client: TestClient, store: Store) -> None:
    before = store.journal.head()
    form = {"do": "accept", "code": "CLR-A014", "who": "Eve", "why": "x", "expires": LATER}
    assert client.post("/data/shop", data=form, headers={"origin": "https://evil.example"}).status_code == 403
    assert store.journal.head() == before


def test_a_fix_makes_a_new_version_and_leaves_the_old_one(client: TestClient, store: Store) -> None:
    rows = {row.name: row for row in store.datasets()}
    form = {"do": "fix", "fix-CLR-A032": "yes", "fix-CLR-A030": "yes", "who": "Ana", "why": "law", "name": "shop 2"}
    assert post(client, **form) == (303, "/data/shop%202?done=fixed")
    page = client.get("/data/shop%202?done=fixed").text
    assert "the dataset that it was made from is unchanged" in page
    after = {row.name: row for row in store.datasets()}
    assert after["shop"] == rows["shop"]
    event = next(r.event for r in store.journal.records() if r.event.kind == "data_fixed")
    assert (event.who, event.why, event.details["made_from"]) == ("Ana", "law", rows["shop"].digest)
    captions = [caption.text for sample in open_data(after["shop 2"].spec) for caption in sample.captions]
    assert any("[card]" in text for text in captions)
    assert not [value for value in VALUES[:2] if any(value in text for text in captions)]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CLERESTORY_CHROMIUM")
def test_a_person_accepts_a_finding_with_the_keyboard(store: Store) -> None:
    with running(create_app(store, None, model="starter")) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page(base_url=base, viewport={"width": 390, "height": 844})
        for path in ("/data", "/data/shop", "/data/shop/audit", "/data/other"):
            page.goto(path)
            found = [v for v in Axe().run(page).response["violations"] if v["impact"] != "minor"]
            assert [(v["id"], v["nodes"][0]["html"]) for v in found] == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.goto("/data/shop")
        card = page.locator("#clr-a014")
        card.get_by_text("Accept this finding").focus()
        page.keyboard.press("Enter")
        card.get_by_label("Reason").fill("they are meant")
        page.keyboard.press("Enter")
        page.wait_for_url("**done=accepted*")
        assert "they are meant" in page.locator("#clr-a014").inner_text()
        browser.close()
