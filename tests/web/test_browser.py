"""The pages in a real Chromium: what a person does with a mouse, with a keyboard alone, and what axe says of each."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from tests.support.images import solid_image
from tests.support.released_store import released_store
from tests.web.conftest import World
from tests.web.small_server import running

from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.store import open_store
from clerestory.web import create_app

CHROMIUM = os.environ.get("CLERESTORY_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
expect.set_options(timeout=30_000)  # patient, since another job may have the machine
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
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, server: str) -> Iterator[BrowserContext]:
    made = chromium.new_context(base_url=server, reduced_motion="reduce")
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page; what it complains of on its console fails the test."""
    complaints: list[str] = []
    made = context.new_page()
    made.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    yield made
    assert complaints == []


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two pictures, and a page that calls itself one."""
    made = [tmp_path / name for name in ("red.png", "blue.png", "sneaky.png")]
    made[0].write_bytes(solid_image(colour="tomato"))
    made[1].write_bytes(solid_image(colour="navy"))
    made[2].write_bytes(b"<!doctype html><script>alert(1)</script>")
    return made


def loaded(page: Page) -> int:
    """How many of the pictures in the window have really been drawn."""
    script = "[...document.querySelectorAll('.pic img')].filter(i => i.complete && i.naturalWidth > 0).length"
    until = time.monotonic() + 20
    while (drawn := int(page.evaluate(script))) < 6 and time.monotonic() < until:
        page.wait_for_timeout(50)
    return drawn


def test_search_shows_pictures_and_the_url_can_be_shared(page: Page, server: str) -> None:
    page.goto("/")
    page.get_by_label("What are you looking for?").fill("a red heart")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="“a red heart”")).to_be_visible()
    assert loaded(page) >= 6
    expect(page.get_by_role("status")).to_contain_text("the 30 best matches of")
    expect(page).to_have_url(re.compile(r"\?q=a\+red\+heart"))
    captions = page.locator(".pic a").all_inner_texts()

    page.get_by_label("Style").focus()
    page.get_by_label("Style").select_option("noto")
    expect(page.get_by_role("heading", name="“a red heart” in Noto")).to_be_visible()
    expect(page.get_by_label("Style")).to_be_focused()

    shared = page.context.new_page()
    shared.goto(page.url)
    expect(shared.get_by_role("heading", name="“a red heart” in Noto")).to_be_visible()
    expect(shared.get_by_label("Style")).to_have_value("noto")
    page.go_back()
    expect(page.get_by_role("heading", name="“a red heart”", exact=True)).to_be_visible()
    assert page.locator(".pic a").all_inner_texts() == captions


def test_a_click_on_a_picture_shows_more_like_it(page: Page) -> None:
    page.goto("/?q=flag")
    name = page.locator(".pic a").first.evaluate("link => link.firstChild.textContent")
    page.locator(".pic").first.click(position={"x": 60, "y": 60})  # on the picture, not on its words
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(f"^{re.escape(name)}$", re.IGNORECASE))
    expect(page.get_by_role("heading", name="More like this")).to_be_visible()
    assert loaded(page) >= 6


def test_show_more_puts_the_focus_on_the_first_new_picture(page: Page) -> None:
    page.goto("/?q=flag")
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("#picture-31 a")).to_be_focused()
    expect(page.locator(".pic")).to_have_count(60)


def test_a_caption_is_edited_accepted_and_comes_out_in_the_table(page: Page, files: list[Path]) -> None:
    page.goto("/describe")
    expect(page.get_by_text("Your pictures stay on this computer.")).to_be_visible()
    page.get_by_label("Choose pictures").set_input_files(files)
    page.get_by_role("button", name="Suggest captions").click()
    expect(page.get_by_text("1 of 3 files was not read")).to_be_visible()
    expect(page.get_by_text("sneaky.png: this is a web page, not a JPEG, PNG or WEBP image")).to_be_visible()

    page.get_by_label("Caption of red.png").fill("a wall painted red")
    page.get_by_role("button", name="Accept for red.png").click()
    expect(page.get_by_text("1 of 2 accepted", exact=True)).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Accepted “a wall painted red”. 1 of 2 accepted.")
    expect(page.get_by_label("Caption of blue.png")).to_be_focused()

    page.get_by_role("group", name="blue.png").get_by_role("button", name="Accept: ").nth(1).click()
    expect(page.get_by_text("2 of 2 accepted", exact=True)).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("1 of 2 accepted", exact=True)).to_be_visible()

    # A caption that was typed and not saved by any button is in the table all the same.
    page.get_by_label("Caption of red.png").fill("a wall painted bright red")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    content = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [(row["file"], row["caption"]) for row in rows] == [("red.png", "a wall painted bright red")]


def test_pictures_dropped_beside_the_frame_are_described_and_shown_large(page: Page, files: list[Path]) -> None:
    page.goto("/describe")
    page.locator("h1").evaluate(
        """(heading, contents) => {
            const carried = new DataTransfer();
            for (const content of contents)
                carried.items.add(new File([new Uint8Array(content)], "same.png", {type: "image/png"}));
            for (const kind of ["dragenter", "dragover", "drop"])
                heading.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
        }""",
        [list(file.read_bytes()) for file in files],
    )
    expect(page.get_by_text("1 of 3 files was not read; 2 pictures to review are below.")).to_be_visible()
    first, second = (page.get_by_role("group", name=name, exact=True) for name in ("same.png", "same.png (2)"))
    expect(second).to_be_visible()
    first.get_by_role("link", name="show it large").focus()
    page.keyboard.press("Enter")
    large = page.get_by_role("dialog", name="same.png")
    expect(large.get_by_role("img")).to_have_js_property("complete", True)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog", name="same.png (2)")).to_contain_text("2 of 2")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect(second.get_by_role("link", name="show it large")).to_be_focused()


def test_a_folder_is_sent_picture_by_picture_and_goes_on_after_an_error(
    context: BrowserContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerestory.web.describe.MAX_IMAGES_PER_REVIEW", 3)
    page = context.new_page()  # without the watch on the console, which reports the error
    (tmp_path / "trip" / "day 1").mkdir(parents=True)
    colours = ("tomato", "navy", "gold", "teal")
    for colour in colours:
        (tmp_path / "trip" / "day 1" / f"{colour}.png").write_bytes(solid_image(colour=colour))
    sent: list[int] = []

    def fail_once(route: Route) -> None:
        sent.append(1)
        if len(sent) == 2:
            route.fulfill(status=503, json={"error": {"message": "the disk is full"}})
        else:
            route.continue_()

    page.route(re.compile(r"/describe/[^/]+/more$"), fail_once)
    page.goto("/describe")
    page.get_by_label("Or a whole folder").set_input_files(tmp_path / "trip")
    page.get_by_role("button", name="Suggest captions").click()
    expect(page.get_by_text("the disk is full", exact=True).first).to_be_visible()
    expect(page.locator("[data-count]")).to_contain_text("2 of 4 done")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("0 of 3 accepted", exact=True)).to_be_visible()
    expect(page.get_by_text("trip/day 1/tomato.png: a review has at most 3 pictures")).to_be_visible()
    assert len(sent) == 4  # the first picture began the review
    expect(page.get_by_role("group", name="trip/day 1/gold.png")).to_be_visible()


def test_a_pasted_picture_is_searched_with(page: Page, files: list[Path]) -> None:
    page.goto("/?q=flag&style=noto")
    page.evaluate(
        """(content) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(content)], "pasted.png", {type: "image/png"}));
            const options = {clipboardData: carried, bubbles: true, cancelable: true};
            document.dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        list(files[0].read_bytes()),
    )
    expect(page.get_by_role("heading", name="Pictures like yours")).to_be_visible()
    expect(page.get_by_text("pasted.png", exact=True)).to_be_visible()
    expect(page.get_by_label("Style")).to_have_value("noto")
    assert loaded(page) >= 6


def test_the_release_page_explains_the_decision(page: Page, world: World) -> None:
    page.goto("/releases")
    expect(page.get_by_text("Live now: icons@2")).to_be_visible()
    expect(page.get_by_text("Yes, it may ship")).to_be_visible()
    page.set_viewport_size({"width": 700, "height": 1000})  # of a sheet of paper between its margins
    page.emulate_media(media="print")
    for block in (".verdict", ".reason", ".freshness", ".journal"):
        assert page.locator(block).first.bounding_box()["width"] > 600, block  # type: ignore[index]  # it is visible
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.reason')).gridTemplateColumns.split(' ').length") == 3
    )
    expect(page.get_by_role("navigation")).to_be_hidden()
    page.emulate_media(media="screen")
    page.get_by_role("link", name="icons@1").click()
    expect(page.get_by_text("No, it must not ship")).to_be_visible()
    expect(page.get_by_text("1 of 2 rules failed: pictures found by their caption.")).to_be_visible()
    first = page.locator(".reason").first
    expect(first).to_contain_text("Failed")
    expect(first).to_contain_text("at least 99 % required", use_inner_text=True)
    first.get_by_role("link", name="Evidence").click()
    expect(page).to_have_url(re.compile(f"/evidence/{world.refused.evidence[0]}"))
    expect(page.get_by_text("Up to date", exact=True)).to_be_visible()
    expect(page.get_by_role("rowheader", name=re.compile("recall@10")).first).to_be_visible()


def press_until(page: Page, key: str, selector: str, most: int = 60) -> None:
    """Press a key until an element has the focus, as somebody without a mouse does."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by keyboard")


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    press_until(page, "Tab", "#q", most=3)
    page.keyboard.type("musical instrument")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="“musical instrument”")).to_be_visible()
    press_until(page, "Tab", ".pic a")
    outline = page.evaluate("getComputedStyle(document.activeElement, '::after').outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="More like this")).to_be_visible()

    press_until(page, "Tab", "nav a[href='/describe']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Captions for your pictures")).to_be_visible()
    press_until(page, "Tab", "form[action='/describe/examples'] button")
    page.keyboard.press("Enter")
    expect(page.get_by_text("0 of 3 accepted", exact=True)).to_be_visible()
    press_until(page, "Tab", "#caption-1")
    page.keyboard.press("Control+a")
    page.keyboard.type("my own words")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 of 3 accepted", exact=True)).to_be_visible()
    expect(page.locator("#caption-2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("2 of 3 accepted", exact=True)).to_be_visible()
    expect(page.locator("#caption-3")).to_be_focused()
    press_until(page, "Shift+Tab", "#undo")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 of 3 accepted", exact=True)).to_be_visible()
    expect(page.locator("#undo")).to_be_focused()
    press_until(page, "Tab", "#download", most=3)
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert "my own words" in Path(download.value.path()).read_text(encoding="utf-8")

    press_until(page, "Shift+Tab", "nav a[href='/releases']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What is live, and why")).to_be_visible()
    press_until(page, "Tab", "a[href^='/evidence/']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Evidence")


def test_a_style_from_elsewhere_is_not_copied_when_a_part_of_the_page_is_replaced(
    page: Page, files: list[Path]
) -> None:
    """A browser or an extension may set one; copying it would be refused by the policy, which the console reports."""
    page.goto("/describe")
    page.get_by_label("Choose pictures").set_input_files(files)
    page.get_by_role("button", name="Suggest captions").click()
    page.wait_for_url("**/describe/*")
    page.evaluate("document.querySelectorAll('input').forEach((each) => { each.style.caretColor = 'auto'; })")
    page.get_by_role("button", name="Accept for red.png").click()
    expect(page.get_by_text("1 of 2 accepted", exact=True)).to_be_visible()


def test_without_scripts_a_caption_is_accepted_too(chromium: Browser, server: str, files: list[Path]) -> None:
    context = chromium.new_context(base_url=server, java_script_enabled=False)
    page = context.new_page()
    page.goto("/?q=flag")
    expect(page.locator(".pic")).to_have_count(30)
    page.goto("/describe")
    page.get_by_label("Choose pictures").set_input_files(files[:2])
    page.get_by_role("button", name="Suggest captions").click()
    page.get_by_label("Caption of blue.png").fill("a calm sea")
    page.get_by_role("button", name="Accept for blue.png").click()
    expect(page.get_by_text("1 of 2 accepted", exact=True)).to_be_visible()
    expect(page.get_by_label("Caption of blue.png")).to_have_value("a calm sea")
    context.close()


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe finds on a page that is not minor."""
    return [
        (each["id"], each["nodes"][0]["html"])
        for each in Axe().run(page).response["violations"]
        if each["impact"] in {"moderate", "serious", "critical"}
    ]


def test_long_digests_in_the_journal_do_not_run_over_on_a_phone(chromium: Browser, tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    released_store(store, tmp_path / "models", 1)
    for kind, subject in (("model_added", "a" * 64), ("finding_accepted", f"data-{'b' * 64}")):
        store.journal.append(Event(kind, subject, "Ada", f"as agreed for {'7' * 64}", now()))
    with running(create_app(store, None, model="starter")) as base:
        page = chromium.new_context(base_url=base, viewport={"width": 390, "height": 844}).new_page()
        page.goto("/releases")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert "a" * 64 not in page.inner_text("main"), "a digest as a subject is short"
        page.context.close()
    store.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_runs_over_on_a_phone(
    chromium: Browser, server: str, world: World, files: list[Path], scheme: str
) -> None:
    context = chromium.new_context(base_url=server, color_scheme=scheme, viewport={"width": 390, "height": 844})  # type: ignore[arg-type]  # one of its literals
    page = context.new_page()
    page.goto("/describe")
    page.get_by_label("Choose pictures").set_input_files(files)
    page.get_by_role("button", name="Suggest captions").click()
    page.wait_for_url("**/describe/*")
    page.get_by_role("button", name="Accept for red.png").click()
    expect(page.get_by_text("1 of 2 accepted", exact=True)).to_be_visible()
    review = page.url
    sample, evidence = world.data.samples[3].id, world.live.evidence[0]
    paths = ["/", "/?q=flag", f"/?like={sample}", "/describe", review, "/releases", "/releases/icons/1", "/governance"]
    paths += ["/feedback", "/trace"]
    for path in [*paths, f"/evidence/{evidence}?q=recall", "/nothing/here"]:
        page.goto(path)
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.goto(review)
    page.get_by_role("link", name="show it large").first.click()
    expect(page.get_by_role("dialog", name="blue.png")).to_be_visible()
    assert violations(page) == [], "a large picture"
    context.close()
