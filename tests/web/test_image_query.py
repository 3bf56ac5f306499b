"""Searching with an image of one's own, and the warning about images unlike the training images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images
from starlette.testclient import TestClient
from tests.support.images import encode_image
from tests.web.conftest import BASE, World, wait_ready
from tests.web.test_pages import pictures_of, visible

from clerestory.core.errors import NotFound
from clerestory.core.sample import Dataset
from clerestory.store import open_store
from clerestory.web import create_app
from clerestory.web.query_images import QueryImages


def photograph(left: int = 0) -> bytes:
    whole = Image.fromarray(load_sample_images().images[0])
    return encode_image(whole.crop((left, 0, left + 260, 260)))


def find(client: TestClient, content: bytes, style: str = "") -> str:
    files = [("style", (None, style)), ("image", ("mine.png", content, "image/png"))]
    return client.post("/", files=files).url.query.decode()


def test_an_image_of_the_data_finds_itself_and_what_is_similar(client: TestClient, world: World) -> None:
    sample = world.data.samples[7]
    query = find(client, world.data.read(sample))
    assert query.startswith("image=")
    page = client.get(f"/?{query}").text
    found = pictures_of(page)
    assert len(found) == 30
    assert f"/images/{sample.id}?" in found[0]
    assert "mine.png" in visible(page)
    assert "It stays on this computer, in memory only." in visible(page)
    assert f'href="/?{query}&amp;n=60#picture-31"' in page
    preview = client.get(f"/query-images/{query.removeprefix('image=')}.webp")
    assert preview.headers["content-type"] == "image/webp"
    narrowed = client.get(f"/?{find(client, world.data.read(sample), 'noto')}").text
    assert all(each.startswith("/images/noto/") for each in pictures_of(narrowed))


@pytest.mark.parametrize(
    ("files", "status", "message"),
    [
        ([("image", ("x.png", b"<!doctype html>", "image/png"))], 415, "This is a web page"),
        ([("image", ("x.png", b"", "image/png"))], 400, "The file is empty"),
        ([("style", (None, "noto"))], 400, "No picture was chosen"),
    ],
)
def test_a_file_that_is_no_image_is_one_sentence(
    client: TestClient, files: list[tuple[str, tuple[str, bytes, str]]], status: int, message: str
) -> None:
    answer = client.post("/", files=files)
    assert answer.status_code == status
    assert message in visible(answer.text)


def test_a_forgotten_image_is_asked_for_again(client: TestClient) -> None:
    answer = client.get("/", params={"image": "no-such-image"})
    assert answer.status_code == 404
    assert "hoose it again on the search page" in visible(answer.text)
    with pytest.raises(NotFound, match="no longer in memory"):
        QueryImages().get("no-such-image")


def screenshot(height: int) -> bytes:
    """A PNG of an editor with light text on a dark ground."""
    image = Image.new("RGB", (640, height), (30, 30, 36))
    for y in range(20, height - 20, 16):
        ImageDraw.Draw(image).text((20, y), f"def function(argument): return argument + {y}", fill=(200, 220, 120))
    return encode_image(image)


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory, few_icons: Dataset) -> Iterator[TestClient]:
    """A server of the starter on some icons."""
    some = few_icons.filter(lambda sample: sample.groups["style"] == "twemoji")
    app = create_app(open_store(tmp_path_factory.mktemp("starter") / "home"), some, model="starter")
    with TestClient(app, base_url=BASE, headers={"origin": BASE}) as made:
        wait_ready(made)
        yield made


def test_photographs_are_called_unlike_the_training_images(starter: TestClient) -> None:
    warning = "not look like those the model was trained on (pictograms)"
    assert warning not in visible(starter.get("/").text)
    assert warning not in visible(starter.get("/describe").text)
    page = starter.get(f"/?{find(starter, photograph())}").text
    assert f"This picture does {warning}" in visible(page)
    assert page.count('class="confidence c0"') == 30
    files = [("images", (f"{size}.png", screenshot(size), "image/png")) for size in (480, 400)]
    review = starter.post("/describe", files=files)
    assert f"The 2 pictures do {warning}" in visible(review.text)
    assert visible(review.text).count("its suggestions are unlikely to be right") == 2
    assert f"The 2 pictures do {warning}" in visible(starter.get(review.url.path).text)
    tagged = visible(starter.post("/describe", files={"images": ("0.png", photograph(0), "image/png")}).text)
    assert warning not in tagged, "photographs get tags from the model that knows them"
    assert "Tags of 0.png" in tagged
