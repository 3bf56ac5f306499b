"""A store with a refused and a live release of tiny models on a few hundred icons, and a server for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient
from tests.support.shared import shared_folder
from tests.support.tiny_model import make_tiny_model

from clerestory.core.codec import Tags
from clerestory.core.release import Policy, Release, Rule
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.suites.latency.timing import BATCHES
from clerestory.stages.release import gate, promote, register
from clerestory.store import Store, open_store
from clerestory.web import create_app
from clerestory.web.server import _listen

BASE = "http://127.0.0.1:8000"
FOUND = {"task": "text_to_image", "split": "test"}


@dataclass(frozen=True)
class World:
    """A store, its dataset, and its two releases."""

    store: Store
    data: Dataset
    refused: Release
    live: Release


def policy(minimum: float, name: str = "tests") -> Policy:
    """Two rules; a random model passes both exactly when ``minimum`` is 0."""
    found = Rule(
        "pictures found by their caption",
        "recall@10",
        Tags(FOUND),
        at_least=minimum,
        why="Search is what most people use the model for.",
    )
    fast = Rule(
        "not absurdly slow",
        "latency_p95",
        Tags(task="latency", operation="embed_image"),
        at_most=60_000,
        criterion="value",
        why="Nobody waits a minute.",
    )
    return Policy(name, (found, fast))


def evaluate_and_gate(store: Store, data: Dataset, folder: Path, minimum: float, why: str) -> Release:
    """Evaluate a model and register the decision of the gate."""
    model = store.put_model(folder)
    # Every suite, each as small as possible: the pages show all of them.
    config = EvaluateConfig(
        caption_samples=6, latency_samples=3, warm_up_requests=1, corruption_samples=2, vqa_samples=8, load_seconds=0.2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(BATCHES, 64)
        patch.setitem(BATCHES, 1, 2)
        evaluate(open_model(store.model_folder(model)), data, config, store)
    return register("icons", gate(model, store, policy(minimum), data.digest), store, "ada", why, Tags(checkpoint=why))


def build_world(home: Path, data: Dataset, first: Path, second: Path) -> World:
    store = open_store(home)
    refused = evaluate_and_gate(store, data, first, 0.99, "early")
    live = evaluate_and_gate(store, data, second, 0.0, "final")
    promote(live.ref, store, "grace", "it holds every rule")
    return World(store, data, refused, live)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, few_icons: Dataset, tiny_model: Path) -> Iterator[World]:
    """Read-only; tests that move aliases make their own."""

    def make(folder: Path) -> None:
        other = make_tiny_model(folder / "other", few_icons, seed=1)
        build_world(folder / "home", few_icons, other, tiny_model).store.close()

    with open_store(shared_folder(tmp_path_factory, "web", make) / "home") as store:
        yield World(store, few_icons, refused=store.release("icons", 1), live=store.release("icons", 2))


def wait_ready(client: httpx.Client | TestClient) -> None:
    """Wait until the model is loaded; patiently, since other jobs may use the machine."""
    until = time.monotonic() + 240
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < until, client.get("/readyz").text
        time.sleep(0.05)


@pytest.fixture(scope="session")
def client(world: World) -> Iterator[TestClient]:
    """The application without a network, called as by one of its own pages."""
    app = create_app(world.store, world.data)
    with TestClient(app, base_url=BASE, headers={"origin": BASE}, raise_server_exceptions=False) as made:
        wait_ready(made)
        yield made


@pytest.fixture(scope="session")
def server(world: World) -> Iterator[str]:
    """A real server on a free port of the loopback address; yields its URL without the last slash."""
    listening = _listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(world.store, world.data), log_level="error", ws="none")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=base) as asking:
            wait_ready(asking)
        yield base
    finally:
        running.should_exit = True
        thread.join()
        listening.close()
