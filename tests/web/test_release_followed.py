"""What is served is what is live: during loads, after rollbacks, and when the database was edited by hand."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.support.released_store import add_release, edit_alias, released_store
from tests.support.tiny_model import make_tiny_model
from tests.web.conftest import BASE, wait_ready

from clerestory.core.release import Release
from clerestory.stages.release import promote, rollback
from clerestory.store import Store, open_store
from clerestory.web import create_app
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.model_follower import ModelFollower

ROUNDS = 8


@pytest.fixture
def releases(store: Store, tmp_path: Path) -> list[Release]:
    return released_store(store, tmp_path, 3)


class SlowFollower(ModelFollower):
    """Every load ends only when it is allowed to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, None, "icons")
        self.go_on = threading.Event()
        self.begun = threading.Event()

    def _load(self, number: int, start: float) -> LoadedModel:
        loaded = super()._load(number, start)
        self.begun.set()
        assert self.go_on.wait(60)
        return loaded


def test_a_load_that_ends_after_its_release_was_taken_back_is_not_served(store: Store, releases: list[Release]) -> None:
    first, second, third = (release.ref for release in releases)
    follower = ModelFollower(store, None, "icons")
    follower.poll()
    slow = SlowFollower(store)
    slow._memory = follower._memory
    assert slow.check() is None
    assert slow.served == first
    promote(second, store, "grace", "newer")
    wanted = slow.check()
    assert (wanted, slow.live, slow.served) == (2, second, first)
    loading = threading.Thread(target=slow._load_into_memory, args=(wanted,))
    loading.start()
    assert slow.begun.wait(60)
    assert slow.loading == second
    promote(third, store, "grace", "the second one is wrong")
    slow.go_on.set()
    loading.join()
    assert (slow.live, slow.served, slow.loading) == (third, first, "")
    slow.poll()
    assert slow.served == third


def test_promotions_and_rollbacks_during_a_load_are_followed(store: Store, releases: list[Release]) -> None:
    """Each time the old release goes on answering, and no answer comes from one that was taken back."""
    first, second = releases[0].ref, releases[1].ref
    app = create_app(store, None)
    with TestClient(app, base_url=BASE) as client:
        wait_ready(client)
        for _ in range(ROUNDS):
            promote(second, store, "grace", "newer", new_space=True)
            client.get("/readyz")
            rollback("icons", store, "grace", "it is wrong")
            _wait_until_followed(client, first)
            answer = client.post("/v1/embeddings", json={"input": "cat"})
            assert answer.headers["clerestory-release"] == first
        promote(second, store, "grace", "newer", new_space=True)
        _wait_until_followed(client, second)
        assert client.post("/v1/embeddings", json={"input": "cat"}).json()["model"] == second
        # The page says the same as /readyz.
        assert f'Model: <a href="/releases/icons/2">{second}</a>' in client.get("/releases").text


def _wait_until_followed(client: TestClient, ref: str) -> None:
    until = time.monotonic() + 240
    while (state := client.get("/readyz").json())["live"] != ref or state["served"] != ref:
        assert time.monotonic() < until, state
        time.sleep(0.02)


def test_the_previous_release_is_loaded_before_it_is_needed(store: Store, releases: list[Release]) -> None:
    promote(releases[1].ref, store, "grace", "newer")
    follower = ModelFollower(store, None, "icons")  # it starts after the promotion
    follower.poll()
    assert follower.served == releases[1].ref
    rollback("icons", store, "grace", "it is wrong")
    assert follower.check() is None  # nothing to load
    assert follower.served == releases[0].ref


def test_state_is_shown_while_a_release_is_loaded(store: Store, releases: list[Release]) -> None:
    app = create_app(store, None)
    client = TestClient(app, base_url=BASE)  # not started: nothing is loaded by itself
    follower = app.state.server.follower
    follower.poll()
    promote(releases[1].ref, store, "grace", "newer")
    follower.check()
    state = client.get("/readyz").json()
    assert (state["status"], state["live"], state["served"]) == ("ready", "icons@2", "icons@1")
    page = client.get("/describe").text
    assert "<b>icons@2 is live and about to be loaded;</b> until then icons@1 answers." in page
    assert client.get("/v1/models").json()["data"][0]["alias"] == ""


@pytest.mark.parametrize("verdict", ["refuse", "cannot_decide"])
def test_an_alias_edited_to_a_release_that_may_not_ship_is_not_served(
    store: Store, releases: list[Release], tmp_path: Path, verdict: str
) -> None:
    refused = add_release(store, make_tiny_model(tmp_path / "refused", seed=9), verdict)
    running = create_app(store, None)
    running.state.server.follower.poll()
    edit_alias(store, refused.number)
    starting = create_app(store, None)
    for app in (running, starting):
        client = TestClient(app, base_url=BASE)
        app.state.server.follower.poll()
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "icons@live is at release 4" in answer.json()["reason"]
        assert "in the journal" in answer.json()["reason"]
        assert answer.json()["served"] in {"", releases[0].ref}
    assert TestClient(starting, base_url=BASE).post("/v1/embeddings", json={"input": "x"}).status_code == 503
    # The release that the journal knows goes on answering, and the page says what is wrong.
    page = TestClient(running, base_url=BASE).get("/releases").text
    assert "icons@1 is still in use" in page
    assert "cannot be trusted" in page
    edit_alias(store, releases[0].number)
    running.state.server.follower.poll()
    assert TestClient(running, base_url=BASE).get("/readyz").status_code == 200


def test_a_removed_alias_is_noticed(store: Store, releases: list[Release]) -> None:
    with store.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM aliases")
    follower = ModelFollower(store, None, "icons")
    follower.poll()
    assert "cannot be trusted" in follower.not_ready_reason


def test_a_changed_verdict_is_noticed(store: Store, tmp_path: Path) -> None:
    released_store(store, tmp_path, 1)
    refused = add_release(store, make_tiny_model(tmp_path / "refused", seed=9), "refuse")
    with store.database.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER releases_no_update")
        statement = "UPDATE releases SET body = replace(body, '\"refuse\"', '\"ship\"') WHERE number = 2"
        assert connection.exec_driver_sql(statement).rowcount == 1
    edit_alias(store, refused.number)
    follower = ModelFollower(store, None, "icons")
    follower.poll()
    assert "differs from the one in the journal" in follower.not_ready_reason


def test_the_server_goes_on_when_the_database_cannot_be_read(tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        released_store(store, tmp_path, 1)
        app = create_app(store, None)
        app.state.server.follower.poll()
        client = TestClient(app, base_url=BASE, raise_server_exceptions=False)
        (tmp_path / "home" / "store.db").rename(tmp_path / "elsewhere")
        store.close()
        (tmp_path / "home" / "store.db").mkdir()  # as root, a mode would not keep anybody from reading
        app.state.server.follower.check()
        page = client.get("/releases")
        assert page.status_code == 503
        assert "Not possible just now" in page.text
        assert client.post("/v1/embeddings", json={"input": "x", "model": "icons@1"}).status_code == 200
        answer = client.post("/v1/embeddings", json={"input": "x", "model": "another"})
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] in {"unavailable", "not_writable"}
        assert client.get("/readyz").json()["warning"]


def test_nothing_is_served_once_nothing_is_live(store: Store, releases: list[Release]) -> None:
    from clerestory.core.codec import Tags
    from clerestory.core.release import Event
    from clerestory.store import AliasMove

    follower = ModelFollower(store, None, "icons")
    follower.poll()
    event = Event("rolled_back", "icons@1", "grace", "taken back", "2026-01-01T00:00:00Z", Tags())
    store.move_aliases("icons", [AliasMove("live", 0, None)], event)
    follower.poll()
    assert (follower.current, follower.live) == (None, "")
    assert "no release of 'icons' is live" in follower.not_ready_reason
