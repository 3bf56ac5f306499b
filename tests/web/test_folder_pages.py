"""The pages of a server with a folder: search, thumbnails, keys, progress, and that nothing else is reachable."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from tests.support.images import encode_image, noise_images, solid_image
from tests.web.small_server import running
from tests.web.test_browser import CHROMIUM, FLAGS, violations
from tests.web.test_hostile_addresses import VALUES
from tests.web.test_pages import visible

from clerestory.apps.describing import tag_encoder
from clerestory.apps.folder_index import FolderIndex
from clerestory.models.photo.encoder import PhotoEncoder
from clerestory.models.protocols import CaptionCandidate, Matrix
from clerestory.store import Store, open_store
from clerestory.web import create_app, folder_library
from clerestory.web.folder_images import read_below
from clerestory.web.folder_search import MAX_CLOSEST
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.model_follower import FixedModel

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (230, 210, 40)}
HOSTILE = '<b>&"x.png'
LONG = f"{'a long name ' * 15}end.png"
NAMES = ("red.png", "trip/green.png", "trip/день/blue.png", "家族/yellow.png", f"trip/{LONG}", HOSTILE)
NUM_IMAGES = 24


class ColourModel:
    """Embeds an image by its mean colour, and a text by the colours that it names."""

    digest = "c0" * 32
    dims = (4,)
    languages = ("en",)
    vocabulary = frozenset(COLOURS)

    def __init__(self) -> None:
        self.may_embed = threading.Event()
        self.may_embed.set()

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        assert self.may_embed.wait(60)
        return _unit([np.asarray(image).mean(axis=(0, 1)) for image in images])

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        named = [[COLOURS[word] for word in text.split() if word in COLOURS] for text in texts]
        return _unit([np.mean(each, axis=0) if each else np.zeros(3) for each in named])


def _unit(colours: list[np.ndarray]) -> Matrix:
    rows = np.array([[*colour, 40] for colour in colours], np.float32)
    unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


class ColourFollower(FixedModel):
    """Serves a colour model."""

    model = ColourModel()

    def _load(self, number: int, start: float) -> LoadedModel:
        return self._prepare(number, "colours", None, self.model, start)  # type: ignore[arg-type]  # it only embeds


def write_image(folder: Path, name: str, number: int) -> None:
    """An image of one of the four colours; each number has its own bytes and year or month."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    colour = tuple(max(0, c - number) for c in list(COLOURS.values())[number % 4])
    (folder / name).write_bytes(solid_image(colour, (60, 40) if number % 2 else (40, 60)))
    os.utime(folder / name, (1_500_000_000 + 10_000_000 * number,) * 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    for number in range(NUM_IMAGES):
        write_image(made, NAMES[number] if number < len(NAMES) else f"trip/{number}.png", number)
    (made / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gallery") / "home"


@pytest.fixture(scope="module")
def server(folder: Path, home: Path) -> Iterator[str]:
    store = open_store(home)
    app = create_app(store, None, folder=folder)
    app.state.server.follower = ColourFollower(store, None, "colours")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_library, "RESCAN_SECONDS", 0.3)
        patch.setattr(folder_library, "RESCAN_FACTOR", 1)
        with running(app) as base:
            yield base
    store.close()


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[httpx.Client]:
    anew = httpx.Limits(max_keepalive_connections=0)  # the server closes a connection that is idle for 5 s
    with httpx.Client(base_url=server, headers={"origin": server}, timeout=60, limits=anew) as made:
        until(lambda: not progress(made)["running"])
        yield made


def progress(client: httpx.Client) -> dict[str, object]:
    state: dict[str, object] = client.get("/folder/progress").raise_for_status().json()
    return state


def until(holds: object) -> None:
    end = time.monotonic() + 60
    while not holds():  # type: ignore[operator]  # a function
        assert time.monotonic() < end
        time.sleep(0.05)


def names_of(page: str) -> list[str]:
    """The file names of the images of a page, in its order."""
    return re.findall(r'data-large="([^"]*)"', page)


def ids_of(page: str) -> list[str]:
    return re.findall(r'href="/folder/images/(\w+)/large"', page)


def test_the_newest_come_first_and_filters_leave_the_others_out(client: httpx.Client) -> None:
    page = client.get("/").text
    assert len(names_of(page)) == NUM_IMAGES
    assert names_of(page)[0] == "23.png"
    assert names_of(page)[-1] == "red.png"
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page
    assert "broken.jpg: the image is damaged" in visible(page).replace(" :", ":")
    assert set(names_of(client.get("/?under=trip/день").text)) == {"blue.png"}
    tall = names_of(client.get("/?orientation=portrait&year=2017").text)
    assert tall == ["red.png"]
    assert len(names_of(client.get("/?under=nowhere&year=1066&orientation=round").text)) == NUM_IMAGES


def test_words_pictures_and_a_minus_make_one_query(client: httpx.Client) -> None:
    page = client.get("/?q=red").text
    assert names_of(page)[0] == "red.png"
    assert "nothing here matches" not in visible(page)
    red, blue = (ids_of(client.get(f"/?q={name}").text)[0] for name in ("red", "blue"))
    alike = client.get(f"/?like={red}").text
    assert "red.png" not in names_of(alike)
    assert names_of(alike)[0] in {LONG, "8.png", "12.png", "16.png", "20.png"}
    between = client.get(f"/?like={red}&q=green").text
    assert "Like this picture, and “green”" in visible(between)
    assert names_of(between)[0] in {"yellow.png", "7.png", "11.png", "15.png", "19.png", "23.png"}
    assert names_of(client.get("/?q=yellow").text)[:6] != names_of(client.get("/?q=yellow -red").text)[:6]
    added = re.findall(r'data-add="([^"]+)"', client.get(f"/?q=green&like={red}").text)[0].replace("&amp;", "&")
    assert client.get(added).text.count('class="remove"') == 2
    several = client.get(f"/?like={red}&like={blue}").text
    assert several.count('class="remove"') == 2
    assert "Add what you are looking for" in visible(client.get("/?q=-red").text)
    gone = client.get(f"/?like={'0' * 24}&q=red")
    assert gone.status_code == 200
    assert "no longer there" in visible(gone.text)


def test_nothing_matches_is_an_answer_with_the_closest_below(client: httpx.Client) -> None:
    page = client.get("/?q=qwxz").text
    assert "Probably nothing here matches “qwxz”" in visible(page)
    assert "Closest, but probably not it" in visible(page)
    assert "gallery unlikely" in page
    assert len(names_of(page)) == MAX_CLOSEST


def test_thumbnails_are_upright_made_once_and_kept_by_content(client: httpx.Client, folder: Path, home: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image = Image.new("RGB", (1800, 900), "navy")
    image.paste("gold", (0, 0, 900, 900))
    (folder / "turned.jpg").write_bytes(encode_image(image, "JPEG", exif=exif))
    until(lambda: "turned.jpg" in names_of(client.get("/").text))
    page = client.get("/").text
    turned = ids_of(page)[names_of(page).index("turned.jpg")]
    small = client.get(f"/folder/images/{turned}/small")
    shown = Image.open(io.BytesIO(small.content))
    assert (small.headers["content-type"], shown.size) == ("image/webp", (320, 640))
    top, bottom = shown.convert("RGB").getpixel((160, 100)), shown.convert("RGB").getpixel((160, 540))
    assert top[0] > 200 > bottom[0]  # type: ignore[index]  # three numbers
    assert Image.open(io.BytesIO(client.get(f"/folder/images/{turned}/large").content)).size == (900, 1800)
    original = client.get(f"/folder/images/{turned}/original")
    assert original.content == (folder / "turned.jpg").read_bytes()
    assert original.headers["content-security-policy"] == "default-src 'none'; sandbox"
    kept = list((home / "thumbnails").glob("*/*-640.webp"))
    assert any(file.read_bytes() == small.content for file in kept)
    (folder / "turned.jpg").unlink()
    until(lambda: "turned.jpg" not in names_of(client.get("/").text))
    assert client.get(f"/folder/images/{turned}/original").status_code == 404


@pytest.mark.parametrize(
    "address",
    ["/folder/images/{}/small", "/folder/images/{}/original", "/?like={}", "/?image={}"],
)
def test_foreign_values_reach_nothing(client: httpx.Client, address: str) -> None:
    for value in (*VALUES[:6], *VALUES[10:], "..%2Fhome%2Fstore.db", "broken.jpg", "trip%2Fgreen.png"):
        answer = client.get(address.replace("{}", value))
        assert answer.status_code == (404 if "folder" in address else 200), (address, value[:40])
    assert (
        client.post("/", files={"image": ("x.png", solid_image())}, headers={"origin": "http://evil"}).status_code
        == 403
    )
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421


def test_no_link_and_no_dots_lead_out_of_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for each in (inside / "sub", outside):
        each.mkdir(parents=True)
        (each / "x.png").write_bytes(b"content")
    (inside / "link.png").symlink_to(outside / "x.png")
    (inside / "linked").symlink_to(outside)
    os.mkfifo(inside / "pipe.png")
    assert read_below(inside, "sub/x.png") == b"content"
    for path in (
        "link.png",
        "linked/x.png",
        "../outside/x.png",
        str(outside / "x.png"),
        "sub/../../outside/x.png",
        "pipe.png",
    ):
        with pytest.raises(OSError, match=r"."):
            read_below(inside, path)


def test_a_new_picture_is_found_and_the_progress_is_shown_meanwhile(client: httpx.Client, folder: Path) -> None:
    ColourFollower.model.may_embed.clear()
    try:
        write_image(folder, "trip/new.png", 40)
        until(lambda: progress(client)["visible"])
        assert (
            progress(client)["sentence"]
            == f"{NUM_IMAGES} of {NUM_IMAGES + 1} pictures are searchable; the others are being read."
        )
        assert "the others are being read." in visible(client.get("/?year=2018").text)
    finally:
        ColourFollower.model.may_embed.set()
    until(lambda: progress(client)["searchable"] == NUM_IMAGES + 1)
    (folder / "trip/new.png").unlink()
    until(lambda: progress(client)["searchable"] == NUM_IMAGES)


def test_a_folder_with_a_name_of_any_bytes_is_a_filter_and_a_new_state_replaces_a_comparison(tmp_path: Path) -> None:
    folder, model = tmp_path / "photos", ColourModel()
    for name in ("a.png", os.fsdecode(b"caf\xe9/b.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(solid_image(COLOURS["red"]))
    with open_store(tmp_path / "home") as store:
        library = folder_library.FolderLibrary(folder, store)
        index = FolderIndex.open(folder, store, model.digest, model.dims)
        index.update(model.embed_images)
        indexed = folder_library.IndexedFolder(index)
        assert indexed.view.folders == (r"caf\xe9",)
        assert indexed.view.count(indexed.view.filters(r"caf\xe9", "", "")) == 1
        matching = indexed.view.matching(indexed.view.filters(r"caf\xe9", "", ""))
        assert [index.snapshot.state.paths[place] for place in matching] == [os.fsdecode(b"caf\xe9/b.png")]
        first = library.compare(indexed)
        assert library.compare(indexed) is first
        (folder / "c.png").write_bytes(solid_image(COLOURS["blue"]))
        index.update(model.embed_images)
        second = library.compare(indexed)
        assert (first.is_stopped, second.is_stopped) == (True, False)
        library.close()
        assert second.is_stopped
        assert first.finished.wait(60)
        assert second.finished.wait(60)


def test_duplicates_are_three_lists_and_a_table_and_nothing_is_deleted(client: httpx.Client, folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "red.png").read_bytes())
    until(lambda: "copy.png" in client.get("/duplicates.csv").text)
    page = client.get("/duplicates").text
    titles = ["The same file more than once", "The same picture, saved again", "Pictures that look alike"]
    assert [title for title in titles if title in visible(page)] == titles
    assert {"copy.png", "red.png"} <= set(names_of(page))
    rows = list(csv.DictReader(io.StringIO(client.get("/duplicates.csv").content.decode("utf-8-sig"))))
    same = [row["image"] for row in rows if row["list"] == "same bytes"]
    assert sorted(same) == ["copy.png", "red.png"]
    assert sum(row["can go"] == "True" for row in rows if row["list"] == "same bytes") >= 1
    assert (folder / "copy.png").exists()
    (folder / "copy.png").unlink()
    until(lambda: "copy.png" not in client.get("/duplicates.csv").text)


def test_a_folder_without_files_that_could_go_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number, image in enumerate(noise_images((60, 40), (60, 40))):
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{number}.png")
    with describing(tmp_path / "home", folder) as client:
        until(lambda: progress(client)["searchable"] == 2)
        client.get("/duplicates.csv").raise_for_status()
        assert "No file is there twice." in visible(client.get("/duplicates").raise_for_status().text)
    (folder / "hard.png").hardlink_to(folder / "0.png")
    with describing(tmp_path / "home", folder) as client:
        until(lambda: "hard.png" in client.get("/duplicates.csv").text)
        linked = client.get("/duplicates").raise_for_status().text
        assert "No file could go: those that are there twice have hard links" in visible(linked)


@pytest.fixture(scope="module")
def browser_page(server: str, client: httpx.Client) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        context = browser.new_context(base_url=server, reduced_motion="reduce")
        complaints: list[str] = []
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        assert complaints == []
        browser.close()


@pytest.mark.browser
def test_the_keyboard_searches_moves_opens_and_closes(browser_page: Page) -> None:
    page = browser_page
    page.goto("/")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="“red”")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#picture-1 .view")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#picture-2 .view")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    large = page.get_by_role("dialog", name="red.png")
    expect(large).to_contain_text("40 × 60 pixels · 1 kB · 14 July 2017")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lightbox-place")).to_have_text(f"2 of {NUM_IMAGES}")
    page.keyboard.press("Escape")
    expect(page.locator("#picture-2 .view")).to_be_focused()
    page.get_by_label("Year").select_option("2017")
    expect(page).to_have_url(re.compile("q=red.*year=2017"))


@pytest.mark.browser
def test_a_dropped_picture_joins_the_words(browser_page: Page) -> None:
    page = browser_page
    page.goto("/")
    page.locator("#q").fill("green")
    page.evaluate(
        """(content) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(content)], "mine.png", {type: "image/png"}));
            const options = {dataTransfer: carried, bubbles: true, cancelable: true};
            document.body.dispatchEvent(new DragEvent("drop", options));
        }""",
        list(solid_image(COLOURS["red"])),
    )
    expect(page.get_by_role("heading", name="Like this picture, and “green”")).to_be_visible()
    page.get_by_role("link", name="Remove mine.png from the search").click()
    expect(page.get_by_role("heading", name="“green”", exact=True)).to_be_visible()


@pytest.mark.browser
def test_axe_finds_nothing_and_nothing_runs_over_on_a_phone(browser_page: Page, client: httpx.Client) -> None:
    page = browser_page
    red = ids_of(client.get("/?q=red").text)[0]
    for scheme, width in (("light", 390), ("dark", 1280)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
        page.set_viewport_size({"width": width, "height": 844})
        for path in ("/", "/?q=qwxz", f"/?like={red}&q=green", "/duplicates"):
            page.goto(path)
            assert violations(page) == [], (path, scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.goto("/")
    page.locator(".view").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []


class CaptioningModel(ColourModel):
    """Says which colour an image has."""

    digest = "ca" * 32

    def caption_images(self, images: Sequence[Image.Image], n: int = 1) -> list[list[CaptionCandidate]]:
        assert self.may_embed.wait(60)
        best = (self.embed_images(images) @ self.embed_texts(list(COLOURS)).T).argmax(axis=1)
        return [[CaptionCandidate(f"something {list(COLOURS)[i]}", 0.5)] for i in best]


class FailingModel(CaptioningModel):
    """Fails on images of some colours, as a model may on one strange image."""

    digest = "fa" * 32

    def __init__(self, *colours: str) -> None:
        super().__init__()
        self.colours = colours

    def caption_images(self, images: Sequence[Image.Image], n: int = 1) -> list[list[CaptionCandidate]]:
        captions = super().caption_images(images, n)
        if any(captions[0][0].text.endswith(colour) for colour in self.colours):
            raise RuntimeError("the model failed")
        return captions


class CaptioningFollower(ColourFollower):
    """Serves a model that describes."""

    model = CaptioningModel()


@contextmanager
def describing(home: Path, folder: Path, model: ColourModel | None = None) -> Iterator[httpx.Client]:
    store = open_store(home)
    app = create_app(store, None, folder=folder)
    app.state.server.follower = follower = CaptioningFollower(store, None, "colours")
    follower.model = model or CaptioningFollower.model
    try:
        with running(app) as base, httpx.Client(base_url=base, headers={"origin": base}, timeout=60) as client:
            yield client
    finally:
        store.close()


def test_a_folder_is_described_in_place_and_continues_after_a_restart(folder: Path, tmp_path: Path) -> None:
    slow = CaptioningFollower.model.may_embed
    with describing(tmp_path / "home", folder) as client:
        assert "All of them (25)" in client.get("/describe").text
        slow.clear()
        review = client.post("/describe/folder", data={"under": ""}).headers["location"]
        assert client.get(f"{review}/progress").json()["total"] == NUM_IMAGES + 1
        threading.Timer(0.5, slow.set).start()  # the server is stopped while a file is being described
    with describing(tmp_path / "home", folder) as client:
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        page = client.get(review).text
        assert "1 of 25 files was not read" in visible(page)
        assert "broken.jpg" in page
        client.post(review, data={"do": "accept-all"})
        client.post(review, data={"do": "undo"})
        client.post(review, data={"do": "accept-all"})
        table = client.get(f"{review}/captions.csv").content.decode("utf-8-sig")
        captions = {row["file"]: row["caption"] for row in csv.DictReader(io.StringIO(table))}
        assert len(captions) == NUM_IMAGES
        assert captions["trip/день/blue.png"] == "something blue"
        assert "24 pictures, 24 accepted" in visible(client.get("/describe").text)
        part = client.post("/describe/folder", data={"under": "trip/день"}).headers["location"]
        until(lambda: not client.get(f"{part}/progress").json()["running"])
        assert "0 of 1 accepted" in visible(client.get(part).text)


def test_a_picture_on_which_the_model_fails_is_named_and_the_others_are_described(folder: Path, tmp_path: Path) -> None:
    with describing(tmp_path / "home", folder, FailingModel("blue")) as client:
        review = client.post("/describe/folder", data={}).headers["location"]
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        state = client.get(f"{review}/progress").json()
        assert (state["done"], state["visible"]) == (25, False), "nothing is left for the next start"
        page = visible(client.get(review).text)
        assert "7 of 25 files were not read" in page  # six are blue, and one is damaged
        assert "6 files: the model failed on it" in page
        assert "trip/день/blue.png" in page
        assert "0 of 18 accepted" in page


def test_a_model_that_fails_on_everything_ends_the_queue_until_the_next_start(folder: Path, tmp_path: Path) -> None:
    with describing(tmp_path / "home", folder, FailingModel(*COLOURS)) as client:
        review = client.post("/describe/folder", data={}).headers["location"]
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        assert "the model failed on several in a row" in client.get(f"{review}/progress").json()["sentence"]
        assert client.get(f"{review}/progress").json()["done"] <= 1  # the damaged one
        assert "the model failed on it" not in visible(client.get(review).text)
    with describing(tmp_path / "home", folder) as client:
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        assert client.get(f"{review}/progress").json()["done"] == 25
        page = visible(client.get(review).text)
        assert "0 of 24 accepted" in page, "all but the damaged one are described"
        assert "1 of 25 files was not read" in page
        assert "the model failed on it" not in page


def test_a_model_that_fails_on_all_of_a_few_is_at_fault(tmp_path: Path) -> None:
    (folder := tmp_path / "few").mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(solid_image())
    (folder / "1 broken.png").write_bytes(b"no image")
    with describing(tmp_path / "home", folder, FailingModel("")) as client:
        review = client.post("/describe/folder", data={}).headers["location"]
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        state = client.get(f"{review}/progress").json()
        assert state["done"] == 0
        assert "The others are not: the model failed on all of them" in state["sentence"]
    with describing(tmp_path / "home", folder) as client:
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        page = visible(client.get(review).text)
        assert "0 of 3 accepted" in page
        assert "1 of 4 files was not read" in page


def test_which_encoder_tags_photographs_is_decided_once_for_a_loaded_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = []

    def counted(store: Store, model: object, ref: str) -> PhotoEncoder | None:
        decided.append(ref)
        return tag_encoder(store, model, ref)

    monkeypatch.setattr("clerestory.web.describe.tag_encoder", counted)
    with describing(tmp_path / "home", folder) as client:
        review = client.post("/describe/folder", data={}).headers["location"]
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        assert client.get(f"{review}/progress").json()["done"] == 25
    assert len(decided) == 1, "not for each of 24 images"


def test_only_the_folder_of_the_server_can_be_described(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.png").write_bytes(solid_image())
    inside = tmp_path / "inside"
    shutil.copytree(folder, inside)
    (inside / "linked").symlink_to(tmp_path / "outside")
    (inside / "link.png").symlink_to(tmp_path / "outside/secret.png")
    with describing(tmp_path / "home", inside) as client:
        for under in ("..", "../outside", "linked", str(tmp_path / "outside"), "/", "%2e%2e", "trip/../..", "\x00"):
            assert client.post("/describe/folder", data={"under": under}).status_code == 404, under
        foreign = client.post("/describe/folder", data={"under": ""}, headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
        review = client.post("/describe/folder", data={}).headers["location"]
        until(lambda: not client.get(f"{review}/progress").json()["running"])
        assert "secret" not in client.get(review).text
        assert "link.png" not in client.get(review).text
        assert client.get("/describe/no-such-review-at-all/progress").status_code == 404
