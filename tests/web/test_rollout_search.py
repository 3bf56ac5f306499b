"""Search during a rollout: the page and the API take part, each answer over the index of the release that gives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.support.images import solid_image, write_circle_images
from tests.support.released_store import released_store
from tests.web.small_server import running

from clerestory.core.sample import Dataset
from clerestory.stages.release.promotion import start_canary
from clerestory.store import Store
from clerestory.store.operations.prediction import RequestKind
from clerestory.store.operations.predictions import PredictionFilter, list_predictions
from clerestory.store.operations.rollouts import RolloutPlan
from clerestory.web import create_app

PLAN = RolloutPlan(steps=(0.5,), min_requests=10_000, new_space=True, max_latency_s=60)


def wait(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def releases(store: Store, tmp_path: Path) -> Store:
    """``icons@1``, live, and ``icons@2`` beside it."""
    released_store(store, tmp_path / "models", 2)
    start_canary("icons@2", store, PLAN, "ada", "try it")
    return store


def embed(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/embeddings", json={"input": "a red heart"})


def test_searches_of_the_page_are_split_and_each_names_its_release(releases: Store, few_icons: Dataset) -> None:
    app = create_app(releases, few_icons)
    with running(app) as base, httpx.Client(base_url=base, timeout=60) as client:
        wait(lambda: "clerestory-arm" in embed(client).headers)
        assert "clerestory-arm" not in client.get("/").headers  # no search
        answers = [client.get("/", params={"q": "a red heart"}) for _ in range(30)]
        assert {each.status_code for each in answers} == {200}
        for each in answers:
            arm = "candidate" if each.headers["clerestory-release"] == "icons@2" else "stable"
            assert (each.headers["clerestory-arm"], each.headers["clerestory-propensity"]) == (arm, "0.5")
        assert {each.headers["clerestory-release"] for each in answers} == {"icons@1", "icons@2"}
        for number in (1, 2):  # over the index of the same release
            searched = client.post("/v1/search", json={"query": "a red heart", "model": f"icons@{number}", "k": 3})
            searcher = app.state.server.follower.resident(number).searcher
            expected = [hit.sample.id for hit in searcher.by_text("a red heart", 3)]
            assert [each["id"] for each in searched.json()["data"]] == expected
        mine = [client.get("/", params={"q": "a heart"}, headers={"clerestory-user": "eve"}) for _ in range(10)]
        assert len({each.headers["clerestory-release"] for each in mine}) == 1

        def searches() -> dict[str, int]:
            with releases.database.reading() as connection:
                found = list_predictions(connection, PredictionFilter(), 1_000)
            return {item.response: item.number for _, item in found if item.kind is RequestKind.SEARCH}

        wait(lambda: all(each.headers["clerestory-response"] in searches() for each in answers))
        for each in answers:
            assert each.headers["clerestory-release"] == f"icons@{searches()[each.headers['clerestory-response']]}"


def test_an_uploaded_image_is_searched_with_by_the_release_that_embedded_it(
    releases: Store, few_icons: Dataset
) -> None:
    with running(create_app(releases, few_icons)) as base, httpx.Client(base_url=base, timeout=60) as client:
        wait(lambda: "clerestory-arm" in embed(client).headers)
        seen = set()
        for _ in range(12):
            sent = client.post("/", files={"image": ("mine.png", solid_image(), "image/png")}, headers={"origin": base})
            assert (sent.status_code, "clerestory-arm" in sent.headers) == (303, True)
            pages = [client.get(sent.headers["location"]) for _ in range(3)]
            assert {(each.status_code, each.headers["clerestory-release"]) for each in pages} == {
                (200, sent.headers["clerestory-release"])
            }
            assert all("clerestory-arm" not in each.headers for each in pages)  # it is no draw of its own
            seen.add(sent.headers["clerestory-release"])
        assert seen == {"icons@1", "icons@2"}


def test_a_candidate_without_an_index_is_not_admitted_for_search(releases: Store, tmp_path: Path) -> None:
    """Of a folder, only the live release has an index."""
    (tmp_path / "folder").mkdir()
    folder = write_circle_images(tmp_path / "folder", "red", "blue", "green")
    with running(create_app(releases, None, folder=folder)) as base, httpx.Client(base_url=base, timeout=60) as client:
        wait(lambda: "clerestory-arm" in embed(client).headers)
        wait(lambda: client.post("/v1/search", json={"query": "a red heart"}).json().get("data"))
        for _ in range(12):
            answers = (client.post("/v1/search", json={"query": "a red heart"}), client.get("/", params={"q": "heart"}))
            assert {(each.status_code, each.headers["clerestory-release"]) for each in answers} == {(200, "icons@1")}
            assert all("clerestory-arm" not in each.headers for each in answers)
        refused = client.post("/v1/search", json={"query": "a red heart", "model": "icons@2"})
        assert refused.status_code == 400
        assert "the folder is not indexed for icons@2" in refused.json()["error"]["message"]
