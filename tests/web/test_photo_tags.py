"""Tags on the pages, with the included model for photographs: the reason of a match, and the review of a folder."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from tests.web.small_server import running
from tests.web.test_browser import CHROMIUM, FLAGS, violations
from tests.web.test_folder_pages import until
from tests.web.test_pages import visible

from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.store import open_store
from clerestory.web import create_app

NAMES = ("cat", "astronaut", "galaxies")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photographs")
    photographs = open_data("photographs")
    for sample in photographs:
        if (name := Path(sample.id).stem) in NAMES:
            decode_sample(photographs, sample).convert("RGB").save(made / f"{name}.jpg")
    Image.new("RGB", (640, 480), "white").save(made / "page.png")
    return made


@contextmanager
def serving(home: Path, folder: Path) -> Iterator[httpx.Client]:
    store = open_store(home)
    try:
        app = create_app(store, None, model="photos", folder=folder)
        with running(app) as base, httpx.Client(base_url=base, headers={"origin": base}, timeout=60) as client:
            until(lambda: not client.get("/folder/progress").json()["running"])
            yield client
    finally:
        store.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("photo tags") / "home"


@pytest.fixture(scope="module")
def client(home: Path, folder: Path) -> Iterator[httpx.Client]:
    with serving(home, folder) as made:
        yield made


def shown(page: str, name: str) -> str:
    """What a page shows about one image."""
    return next(part for part in page.split('<li class="shot"') if f'data-large="{name}"' in part)


def test_a_result_says_which_of_its_tags_the_query_names(client: httpx.Client, folder: Path) -> None:
    page = client.get("/?q=a+kitten").text
    assert "<b>cat</b>" in shown(page, "cat.jpg")
    assert "as in your search" in shown(page, "cat.jpg")
    assert '<li title="' in shown(page, "astronaut.jpg")
    assert "<b>" not in shown(page, "astronaut.jpg").split('<ul class="tags"')[1], "a tag, but not the reason"
    assert re.search(r'data-tags="Probably shows: cat \((likely|very likely|almost certain)\)', shown(page, "cat.jpg"))
    assert 'data-tags="Not sure what it shows"' in shown(page, "galaxies.jpg")
    assert "data-tags" not in shown(page, "page.png")
    assert 'class="tags"' not in client.get("/").text, "nothing was searched for, so nothing is a reason"
    alike = client.post("/", files={"image": ("x.jpg", (folder / "cat.jpg").read_bytes())}, follow_redirects=True)
    assert "<b>cat</b>" in shown(alike.text, "cat.jpg"), "the tags of an uploaded image are reasons, too"


def test_a_review_has_tags_that_a_person_edits_and_downloads(client: httpx.Client, home: Path) -> None:
    review = client.post("/describe/folder", data={}).headers["location"]
    until(lambda: not client.get(f"{review}/progress").json()["running"])
    page = client.get(review).text
    number = {name: int(n) for n, name in re.findall(r'<span id="name-(\d+)">([^<]+)</span>', page)}
    assert re.search(r"Probably shows: cat \([a-z ]+\)", page)
    assert "Not sure what it shows." in page
    cat, space, blank = (number[name] for name in ("cat.jpg", "galaxies.jpg", "page.png"))
    assert f'name="tags-{blank}"' not in page, "it is not a photograph"
    refused = client.post(review, data={"do": f"accept-{space}"})
    assert "Write a caption or tags for galaxies.jpg first" in visible(refused.text)
    edits = {f"tags-{cat}": " cat,  ginger  cat, cat,", f"tags-{space}": "", f"caption-{space}": "far galaxies"}
    client.post(review, data={"do": f"accept-{cat}", **edits})
    client.post(review, data={"do": "accept-all"})
    table = client.get(f"{review}/captions.csv").content.decode("utf-8-sig")
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(table))}
    assert set(rows) == {"cat.jpg", "astronaut.jpg", "galaxies.jpg"}
    assert rows["cat.jpg"]["tags"] == "cat, ginger cat"
    assert rows["cat.jpg"]["suggested tags"].split(", ")[0] == "cat"
    assert (rows["galaxies.jpg"]["caption"], rows["galaxies.jpg"]["suggested tags"]) == ("far galaxies", "not sure")
    client.post(review, data={"do": "undo"})
    client.post(review, data={"do": "undo"})
    client.post(review, data={"do": "undo"})
    stored = json.loads(next(home.glob(f"**/{review.rpartition('/')[2]}/review.json")).read_bytes())
    kept = next(item for item in stored["page"]["items"] if item["number"] == cat)
    assert kept["tag_text"] == ", ".join(tag["text"] for tag in kept["tags"])


def test_a_review_from_before_there_were_tags_is_read(client: httpx.Client, home: Path, folder: Path) -> None:
    review = client.post("/describe", files={"images": ("cat.jpg", (folder / "cat.jpg").read_bytes())}).headers
    file = next(home.glob(f"**/{review['location'].rpartition('/')[2]}/review.json"))
    content = json.loads(file.read_bytes())
    for item in content["page"]["items"]:
        del item["tags"], item["tag_text"]
        item["caption"] = "a cat"
    (older := file.parent.parent / ("older" * 5)).mkdir()
    for each in file.parent.iterdir():
        (older / each.name).write_bytes(each.read_bytes())
    (older / "review.json").write_text(json.dumps(content))
    page = client.get(f"/describe/{older.name}").text
    assert 'value="a cat"' in page
    assert "Probably shows" not in page


def test_a_model_of_drawings_captions_drawings_and_leaves_photographs_to_the_tags(
    folder: Path, few_icons: Dataset, tmp_path: Path
) -> None:
    files = [("images", ("cat.jpg", (folder / "cat.jpg").read_bytes()))]
    files.append(("images", ("drawing.png", few_icons.read(few_icons.samples[0]))))
    store = open_store(tmp_path)
    try:
        with (
            running(create_app(store, None, model="starter")) as base,
            httpx.Client(base_url=base, headers={"origin": base}, timeout=60, follow_redirects=True) as starter,
        ):
            page = starter.post("/describe", files=files).text
    finally:
        store.close()
    photograph, drawing = page.split('<li id="item-')[1:]
    assert "Probably shows: cat" in photograph
    assert 'value="use-1-' not in photograph
    assert 'value="use-2-1"' in drawing
    assert 'name="tags-2"' not in drawing


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_tags_fit_and_are_accessible_at_both_widths(client: httpx.Client) -> None:
    review = client.post("/describe/folder", data={}).headers["location"]
    until(lambda: not client.get(f"{review}/progress").json()["running"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page: Page = browser.new_page(base_url=str(client.base_url))
        for scheme, width in (("light", 390), ("dark", 1280)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
            page.set_viewport_size({"width": width, "height": 844})
            for path in ("/?q=a+kitten+and+a+woman", "/describe", review):
                page.goto(path)
                assert violations(page) == [], (path, scheme)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        page.goto("/?q=a+kitten")
        page.locator("[data-large='cat.jpg']").click()
        expect(page.get_by_role("dialog")).to_contain_text("Probably shows: cat (")
        browser.close()
