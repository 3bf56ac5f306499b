"""The pages and the API with other models: one that cannot describe, one that cannot search, a remote one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient
from tests.support.endpoint import endpoint
from tests.support.images import write_circle_images
from tests.support.tiny_hf import make_clip, make_llava
from tests.web.conftest import BASE, wait_ready

from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.models import capabilities, open_reference
from clerestory.models.adapters.hf_dual import DualEncoder
from clerestory.models.adapters.openai import RemoteEmbedder
from clerestory.store import Store
from clerestory.web import create_app
from clerestory.web.server import _listen


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("photographs")
    return open_data(write_circle_images(folder, "red", "blue", "green"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("models") / "clip")


@contextmanager
def pages(store: Store, data: Dataset, ref: str) -> Iterator[TestClient]:
    app = create_app(store, data, model=ref)
    with TestClient(app, base_url=BASE, headers={"origin": BASE}, raise_server_exceptions=False) as client:
        wait_ready(client)
        yield client


def test_a_clip_searches_and_reports_that_it_cannot_describe(store: Store, data: Dataset, clip: Path) -> None:
    with pages(store, data, f"hf:{clip}") as client:
        page = client.get("/", params={"q": "a red circle"})
        assert page.status_code == 200
        assert "red circle" in page.text
        assert f"Model: hf:{clip}" in page.text
        assert "Everything happens on this computer" in page.text
        refused = client.get("/describe")
        assert refused.status_code == 400
        assert "cannot write captions" in refused.text
        entry = client.get("/v1/models").json()["data"][0]
        assert (entry["capabilities"], entry["dimensions"]) == (["Embedder", "Scorer"], [24])
        found = client.post("/v1/embeddings", json={"input": ["a red circle"], "model": f"hf:{clip}"}).json()
        model = open_reference(f"hf:{clip}")
        assert isinstance(model, DualEncoder)
        np.testing.assert_allclose(found["data"][0]["embedding"], model.embed_texts(["a red circle"])[0], atol=1e-6)
        assert client.get("/releases").status_code == 200


def test_a_chat_model_describes_and_reports_that_it_cannot_search(store: Store, data: Dataset, tmp_path: Path) -> None:
    with pages(store, data, f"hf:{make_llava(tmp_path / 'llava')}") as client:
        refused = client.get("/")
        assert refused.status_code == 400
        assert "cannot search" in refused.text
        assert client.get("/describe").status_code == 200
        review = client.post("/describe/examples")
        assert review.status_code == 200
        assert "use-1-1" in review.text
        answer = client.post("/v1/embeddings", json={"input": "x"})
        assert answer.status_code == 400
        assert "does not produce embeddings" in answer.text


def test_an_endpoint_describes_without_a_confidence(store: Store, data: Dataset) -> None:
    with endpoint() as server, pages(store, data, server.ref) as client:
        review = client.post("/describe/examples")
        assert "Write 3 different short captions" in review.text
        assert "stay on this computer" in review.text
        server.always = "refuses"
        assert "pictures are not taken" in client.post("/describe/examples").text


def test_every_page_names_the_host_that_receives_pictures(
    store: Store, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    # 0.0.0.0 reaches this computer, but is no loopback address: it counts as another computer.
    with endpoint() as server, pages(store, data, server.ref.replace("127.0.0.1", "0.0.0.0")) as client:
        for page in (client.get("/describe"), client.get("/releases"), client.post("/describe/examples")):
            assert page.status_code == 200
            assert "are sent to 0.0.0.0" in page.text
            assert "this computer" not in page.text.partition("<main")[2]


def test_a_model_that_cannot_be_loaded_is_reported(store: Store, data: Dataset, tmp_path: Path) -> None:
    app = create_app(store, data, model=f"hf:{tmp_path / 'nowhere'}")
    with TestClient(app, base_url=BASE) as client:
        answer = client.get("/readyz")
        while "being loaded" in answer.text:
            answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "no model folder" in answer.json()["reason"]


def test_another_clerestory_server_is_an_embedder(store: Store, data: Dataset, clip: Path) -> None:
    listening = _listen("127.0.0.1", 0)
    app = create_app(store, data, model=f"hf:{clip}")
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while app.state.server.follower.current is None:
            threading.Event().wait(0.05)
        remote = open_reference(f"openai:http://127.0.0.1:{listening.getsockname()[1]}/v1")
        local = open_reference(f"hf:{clip}")
        assert isinstance(remote, RemoteEmbedder)
        assert isinstance(local, DualEncoder)
        assert capabilities(remote) == ("Embedder",)
        assert remote.dims == local.dims
        picture = Image.new("RGB", (40, 30), "red")
        np.testing.assert_allclose(remote.embed_texts(["red", "a cat"]), local.embed_texts(["red", "a cat"]), atol=1e-6)
        np.testing.assert_allclose(remote.embed_images([picture]), local.embed_images([picture]), atol=1e-6)
        assert local.digest == remote.facts()["reported_digest"]
    finally:
        running.should_exit = True
        thread.join()
        listening.close()
