"""The report in a real Chromium: nothing sticks out on a phone, axe has nothing to say, the filter filters."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect, sync_playwright
from tests.report.world import make_model
from tests.support.colour_tiles import ColourModel, tiles
from tests.support.faulty_data import faulty_data
from tests.support.governed import governed
from tests.support.release_life import DATA, Life, flip

from clerestory.apps.audit_report import audit_page
from clerestory.apps.govern_report import govern_page
from clerestory.apps.governing import catalogues_of
from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.report import report
from clerestory.report.audit_page import render_audit
from clerestory.report.govern_page import render_governance
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.run import audit
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.govern.run import govern
from clerestory.stages.govern.statements import state_items
from clerestory.store import open_store

CHROMIUM = os.environ.get("CLERESTORY_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set CLERESTORY_CHROMIUM"
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of a model that was really examined."""
    folder: Path = tmp_path_factory.mktemp("report")
    store, model, data = open_store(folder / "home"), ColourModel(), tiles()
    model.digest = store.put_model(make_model(folder / "model", "colours"))
    evaluate(
        model,
        data,
        EvaluateConfig(
            caption_samples=6, latency_samples=12, warm_up_requests=1, corruption_samples=0, load_seconds=0.2
        ),
        store,
    )
    return report(store, model.digest, folder / "out.html", data).html.as_uri()


@pytest.fixture(scope="module")
def audit_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an audit of data with faults."""
    folder, data, config = tmp_path_factory.mktemp("audit"), faulty_data(), AuditConfig()
    html = render_audit(audit_page(data, audit(data, open_store(folder / "home"), config), config))
    (folder / "audit.html").write_text(html)
    return (folder / "audit.html").as_uri()


@pytest.fixture(scope="module")
def govern_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a governance run with every state."""
    folder = tmp_path_factory.mktemp("govern")
    store = open_store(folder / "home")
    store.put_dataset("icons", "icons", DATA, 10, Event("data_added", "icons", "Ada", "a test", now()))
    context, release = governed(Life(store, folder / "models"))
    items = {item.id: (each, item) for each in catalogues_of() for item in each.items}
    state_items(store, [items["GOVERN 1.4"], items["GOVERN 2.1"]], "See <the handbook> & more.", release=release)
    state_items(store, [items["MS-2.7-007"]], "It generates nothing.", not_applicable=True)
    context.suites["fairness"] = replace(context.suites["fairness"], state="stale", changed=("data",))
    flip(store.model_folder(release.model) / "model.safetensors", 3)
    html = render_governance(govern_page(govern(context, catalogues_of()), "clerestory govern --report govern.html"))
    (folder / "govern.html").write_text(html)
    return (folder / "govern.html").as_uri()


@pytest.fixture(scope="module")
def chromium(address: str, audit_address: str, govern_address: str) -> Iterator[Browser]:
    """Started after the pages were made, since a model and the browser want a loop of events of their own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["report", "audit", "govern"])
def test_every_width_and_light(
    chromium: Browser, address: str, audit_address: str, govern_address: str, width: int, scheme: str, kind: str
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.goto({"report": address, "audit": audit_address, "govern": govern_address}[kind])
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert complaints == []
    context.close()


def test_every_state_of_a_requirement_opens_its_evidence(chromium: Browser, govern_address: str) -> None:
    context = chromium.new_context(java_script_enabled=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto(govern_address)
    for state, item in {
        "failed": "item-nist-ai-rmf-1.0-GOVERN-1.6",
        "stale": "item-nist-ai-rmf-1.0-MEASURE-2.11",
        "passed": "item-nist-ai-rmf-1.0-GOVERN-1.4",
        "untested": "item-nist-ai-rmf-1.0-MEASURE-2.4",
        "needs a person": "item-nist-ai-rmf-1.0-GOVERN-2.2",
        "not applicable": "item-nist-ai-600-1-MS-2.7-007",
    }.items():
        requirement = page.locator(f'[id="{item}"]')
        expect(requirement.locator("summary .badge")).to_have_text(state)
        if state != "failed":  # which is open
            requirement.locator("summary").click()
        expect(requirement.locator(".inside")).to_be_visible()
    page.locator('[id="item-nist-ai-rmf-1.0-MEASURE-2.11"] .answers a').click()
    expect(page.locator("#check-fairness")).to_be_in_viewport()
    expect(page.locator("#check-fairness")).to_contain_text("but with other data")
    context.close()


def test_finer_slices_can_be_left_out_without_a_script(chromium: Browser, address: str) -> None:
    context = chromium.new_context(java_script_enabled=True)
    page = context.new_page()
    page.goto(address)
    page.get_by_text("Quality: does it find, classify and describe correctly?").click()
    part = page.locator("#numbers-quality tr.part").first
    expect(part).to_be_visible()
    page.get_by_label("whole tasks only").check()
    expect(part).to_be_hidden()
    expect(page.locator("#numbers-quality tbody tr:not(.part)").first).to_be_visible()
    context.close()


def test_the_report_prints_on_few_pages_and_counts_the_rest(chromium: Browser, address: str, tmp_path: Path) -> None:
    page = chromium.new_page()
    page.goto(address)
    note = page.locator(".only-print").first
    expect(note).to_be_hidden()
    page.emulate_media(media="print")
    expect(note).to_be_visible()
    left_out, tables = page.locator(".only-print", has_text="rows: on the page"), page.locator(".long")
    assert left_out.count() == tables.count()
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    pages = re.findall(rb"/Type\s*/Page[^s]", (tmp_path / "report.pdf").read_bytes())
    assert 1 < len(pages) <= 20
    page.close()
