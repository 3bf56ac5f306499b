"""The pages of drift: of a server that compares real requests with the reference."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.support.images import data_uri, encode_image
from tests.support.released_store import released_store
from tests.web.conftest import BASE, wait_ready

from clerestory.apps.datasets import add_dataset
from clerestory.apps.drift_reference import choose_reference
from clerestory.stages.watch.drift.settings import DriftSettings
from clerestory.store import open_store
from clerestory.web import create_app
from clerestory.web.drift import drift_views
from clerestory.web.serve_config import ServeConfig

WINDOW = 8


def picture(seed: int, blue: bool) -> bytes:
    rng = np.random.default_rng([blue, seed])
    light, dark = int(rng.integers(140, 255)), int(rng.integers(0, 90))
    image = Image.new("RGB", (32, 32), (dark, dark, light) if blue else (light, light, dark))
    image.paste((255, 255, 255), (8, 8, int(rng.integers(12, 26)), 20))
    return encode_image(image)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:  # type: ignore[misc]
    root: Path = tmp_path_factory.mktemp("drift")
    store = open_store(root / "home")
    released_store(store, root, 1)
    folder = root / "warm"
    folder.mkdir()
    for i in range(100):
        (folder / f"{i}.png").write_bytes(picture(i, False))
        (folder / f"{i}.txt").write_text(f"a yellow square {i}", encoding="utf-8")
    add_dataset(store, str(folder), "warm")
    settings = DriftSettings(window=WINDOW, max_false_alarms_per_year=1000, keep_images=200)
    with TestClient(create_app(store, None, config=ServeConfig(drift=settings)), base_url=BASE) as client:
        wait_ready(client)
        empty = client.get("/drift")
        assert empty.status_code == 200
        assert "no image has arrived yet" in empty.text
        choose_reference(store, "icons", "warm", why="a test")
        for i in range(8):  # the faster requests come, the less a window may spend
            send(client, range(40 * i, 40 * i + 40))
        wait_for(client, 150)
        yield client


def send(client: TestClient, numbers: range) -> None:
    for number in numbers:
        body = {"model": "icons", "input": [data_uri(picture(number, number >= 16))], "user": f"person {number}"}
        answer = client.post("/v1/embeddings", json=body)
        assert answer.status_code == 200, answer.text


def wait_for(client: TestClient, observed: int) -> None:
    store = client.app.state.server.store  # type: ignore[attr-defined]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        views = drift_views(store)
        if views and any("alarm" in view.answer for view in views):
            return
        time.sleep(0.1)
    raise AssertionError(drift_views(store), client.app.state.server.drift.problem)  # type: ignore[attr-defined]


def test_the_pages_show_state_budget_and_alarm(client: TestClient) -> None:
    start = client.get("/drift").text
    assert "monitors have an alarm" in start
    page = client.get("/drift/icons").text
    for words in ("false alarm", "warm", "<svg", "clerestory watch drift --reset icons", "windows"):
        assert words in page, words
    assert client.get("/drift/no-model").status_code == 404
    assert client.get("/drift/icons/no-alarm").status_code == 404


def test_an_alarm_has_a_url_with_its_images_beside_the_reference(client: TestClient) -> None:
    (view,) = drift_views(client.app.state.server.store)  # type: ignore[attr-defined]
    alarm = view.alarms[0]
    page = client.get(f"/drift/icons/{alarm['id']}").text
    assert alarm["title"] in page
    sources = [part.split('"')[0] for part in page.split('src="')[1:] if part.startswith("/drift/")]
    assert any(source.startswith("/drift/image/") for source in sources)
    assert any(source.startswith("/drift/reference/warm/") for source in sources)
    for source in sources:
        answer = client.get(source)
        assert answer.status_code == 200, source
        assert answer.headers["content-type"] == "image/webp"


def test_no_image_outside_of_the_reference_is_given(client: TestClient) -> None:
    assert client.get("/drift/reference/warm/0000/1").status_code == 404
    assert client.get("/drift/reference/other/0000/1").status_code == 404
    assert client.get("/drift/image/..%2F..%2Fstore.db").status_code == 404
    assert client.get("/drift/image/resp_unknown").status_code == 404


def test_the_monitors_are_metrics(client: TestClient) -> None:
    lines = client.get("/metrics").text.splitlines()
    alarms = [line for line in lines if line.startswith("clerestory_drift_alarm{")]
    assert any('model="icons",monitor="embedding",slice="all"} 1.0' in line for line in alarms)
    assert "clerestory_drift_dropped 0.0" in lines
