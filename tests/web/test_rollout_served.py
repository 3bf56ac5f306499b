"""A real server with two releases in memory: canary, breach, pinned versions, heartbeats, a rollback that waits."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.disks import can_mount, small_disk
from tests.support.images import solid_image
from tests.support.released_store import add_release, released_store
from tests.support.tiny_model import make_tiny_model
from tests.web.small_server import running

from clerestory.apps.proved_rollback import prove_rollback, rehearse_rollback
from clerestory.core.errors import IntegrityError, Refused, Undecided
from clerestory.models import Embedder
from clerestory.stages.release import promote, rollback
from clerestory.stages.release.promotion import promote_canary, start_canary
from clerestory.store import Store, open_store
from clerestory.store.operations.golden_outputs import GoldenOutputs, read_golden, write_golden
from clerestory.store.operations.prediction import Prediction, RequestKind
from clerestory.store.operations.predictions import add_predictions, row_of
from clerestory.store.operations.rollouts import (
    RolloutPlan,
    RolloutState,
    ShadowCounts,
    list_rollouts,
    read_shadow,
)
from clerestory.store.operations.servers import ServerStatus, list_servers
from clerestory.web import create_app
from clerestory.web.loaded_model import LoadedModel


@pytest.fixture
def releases(store: Store, tmp_path: Path) -> Store:
    """``icons@1``, live, and ``icons@2``."""
    released_store(store, tmp_path / "models", 2)
    return store


@pytest.fixture
def served(releases: Store) -> Iterator[str]:
    with running(create_app(releases, None)) as base:
        yield base


def wait(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def servers(store: Store) -> list[ServerStatus]:
    with store.database.reading() as connection:
        return list_servers(connection, "icons")


def embed(client: httpx.Client, **more: str) -> httpx.Response:
    return client.post("/v1/embeddings", json={"input": "a red heart", **more})


def test_a_canary_answers_its_share_and_subjects_stay(releases: Store, served: str) -> None:
    start_canary("icons@2", releases, RolloutPlan(steps=(0.5,), min_requests=10_000, new_space=True), "ada", "try it")
    wait(lambda: servers(releases) and "icons@2" in servers(releases)[0].resident)
    with httpx.Client(base_url=served, timeout=60) as client:
        wait(lambda: "clerestory-arm" in embed(client).headers)
        seen = [embed(client, user=f"u{i % 5}") for i in range(30)]
        assert all(each.status_code == 200 for each in seen)
        by_user = {i % 5: each.headers["clerestory-release"] for i, each in enumerate(seen)}
        assert all(by_user[i % 5] == each.headers["clerestory-release"] for i, each in enumerate(seen))
        for each in seen:
            arm = "candidate" if each.headers["clerestory-release"] == "icons@2" else "stable"
            assert (each.headers["clerestory-arm"], each.headers["clerestory-propensity"]) == (arm, "0.5")
            assert each.json()["model"] == each.headers["clerestory-release"]
        counted = Counter(embed(client).headers["clerestory-release"] for _ in range(40))
        assert set(counted) == {"icons@1", "icons@2"}
        pinned = embed(client, model="icons@1")
        assert pinned.headers["clerestory-release"] == "icons@1"
        assert "clerestory-arm" not in pinned.headers
        promote_canary("icons", releases, "ada", "good", without_evidence=True)
        wait(lambda: client.get("/readyz").json()["served"] == "icons@2")
        assert embed(client, model="icons@1").headers["clerestory-release"] == "icons@1"  # previous stays in memory


def test_a_failing_candidate_is_taken_back_by_the_server(
    releases: Store, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_canary("icons@2", releases, RolloutPlan(steps=(0.5,), max_latency_s=1e-9, latency_tolerance=0.5), "ada", "x")
    # Every answer of either arm is late, which the guardrail of latency allows; errors are made below.
    wait(lambda: servers(releases) and "icons@2" in servers(releases)[0].resident)
    from clerestory.web import embedding_request

    original = embedding_request.embedder_of
    digest = releases.release("icons", 2).model

    def broken(loaded: object) -> object:
        if loaded.model.digest == digest:  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return original(loaded)  # type: ignore[arg-type]

    for module in ("api", "embeddings"):
        monkeypatch.setattr(f"clerestory.web.{module}.embedder_of", broken, raising=False)

    def state() -> RolloutState:
        with releases.database.reading() as connection:
            return list_rollouts(connection, "icons")[0].state

    with httpx.Client(base_url=served, timeout=60) as client:
        for _ in range(400):
            embed(client)
            if state() is RolloutState.ROLLED_BACK:
                break
        assert state() is RolloutState.ROLLED_BACK
        wait(lambda: "clerestory-arm" not in embed(client).headers)
        assert {embed(client).status_code for _ in range(10)} == {200}


def test_a_candidate_that_cannot_be_loaded_leaves_the_live_version(releases: Store) -> None:
    start_canary("icons@2", releases, RolloutPlan(steps=(0.5,)), "ada", "try it")
    weights = releases.model_folder(releases.release("icons", 2).model) / "model.safetensors"
    weights.write_bytes(b"damaged")
    with running(create_app(releases, None)) as base, httpx.Client(base_url=base, timeout=60) as client:
        wait(lambda: servers(releases) and "have changed" in servers(releases)[0].problem)
        status = servers(releases)[0]
        assert (status.served, status.resident) == ("icons@1", ("icons@1",))
        answers = [embed(client) for _ in range(20)]
        assert {(each.status_code, each.headers["clerestory-release"]) for each in answers} == {(200, "icons@1")}
        assert all("clerestory-arm" not in each.headers for each in answers)


@pytest.mark.skipif(not can_mount(), reason="a small disk cannot be mounted here")
def test_on_a_full_disk_a_server_stops_a_failing_candidate_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clerestory.web import embeddings

    original, broken = embeddings.embedder_of, {""}

    def embedder_of(loaded: LoadedModel) -> Embedder:
        if loaded.ref in broken:
            raise ZeroDivisionError
        return original(loaded)

    monkeypatch.setattr(embeddings, "embedder_of", embedder_of)
    models = tmp_path / "models"
    with small_disk(tmp_path / "disk", megabytes=64) as disk, open_store(disk.folder / "home") as store:
        released_store(store, models, 2)
        start_canary("icons@2", store, RolloutPlan(steps=(0.5,), max_latency_s=60), "ada", "try it")
        with running(create_app(store, None)) as base, httpx.Client(base_url=base, timeout=60) as client:
            wait(lambda: "clerestory-arm" in embed(client).headers)
            disk.fill()
            broken.add("icons@2")
            answers: list[httpx.Response] = []

            def stopped() -> bool:
                answers.append(embed(client))
                return "clerestory-arm" not in answers[-1].headers

            wait(stopped)
            for each in answers:
                assert (each.status_code == 500) == (each.headers["clerestory-release"] == "icons@2")
            assert {embed(client).headers["clerestory-release"] for _ in range(20)} == {"icons@1"}
            disk.free()


def test_heartbeats_say_what_is_live_and_end_with_the_server(releases: Store) -> None:
    with running(create_app(releases, None)):
        wait(lambda: servers(releases) and servers(releases)[0].proved == "icons@1")
        status = servers(releases)[0]
        assert (status.live, status.served, status.problem) == ("icons@1", "icons@1", "")
        assert status.is_running()
    assert servers(releases) == []


def test_a_rollback_waits_for_the_servers_and_a_rehearsal_changes_nothing(releases: Store, served: str) -> None:
    promote("icons@2", releases, "ada", "better")
    wait(lambda: servers(releases) and servers(releases)[0].proved == "icons@2")
    before = releases.revision()
    rehearsed = rehearse_rollback("icons", releases)
    assert (rehearsed.target, rehearsed.rehearsed, rehearsed.replayed, rehearsed.mitigated) == (
        "icons@1",
        True,
        True,
        False,
    )
    assert releases.revision() == before
    proof = prove_rollback("icons", releases, "ada", "worse")
    assert proof.mitigated
    assert len(proof.servers) == 1
    assert servers(releases)[0].served == "icons@1"


def test_a_rollback_to_a_model_that_answers_otherwise_is_refused(releases: Store) -> None:
    promote("icons@2", releases, "ada", "better")
    rehearse_rollback("icons", releases)
    stored = read_golden(releases, releases.release("icons", 1).model)
    assert stored is not None
    assert stored.texts is not None
    write_golden(releases, releases.release("icons", 1).model, GoldenOutputs(-stored.texts, stored.images))
    with pytest.raises(IntegrityError, match="does not answer the golden inputs as before"):
        prove_rollback("icons", releases, "ada", "worse")
    live = releases.alias("icons", "live")
    assert live is not None
    assert live.number == 2
    assert rollback("icons", releases, "ada", "all the same").number == 1


def test_a_server_whose_end_nobody_saw_does_not_hold_a_rollback_up(releases: Store) -> None:
    from clerestory.store.operations.servers import beat

    promote("icons@2", releases, "ada", "better")
    gone = ServerStatus("srv_x", "icons", "icons@2", "icons@2", "", 1.0, time.time() - 60)
    with releases.database.writing() as connection:
        beat(connection, gone)
    assert prove_rollback("icons", releases, "ada", "worse").mitigated
    with releases.database.writing() as connection:
        beat(connection, ServerStatus("srv_y", "icons", "", "icons@2", "", 1.0, time.time()))
    promote("icons@2", releases, "ada", "again")
    proof = prove_rollback("icons", releases, "ada", "worse", wait_s=0.2)
    assert not proof.mitigated
    assert "serves icons@2" in proof.lagging[0]


def test_another_embedding_space_is_refused_while_clients_depend_on_the_old_one(
    releases: Store, tmp_path: Path
) -> None:
    from clerestory.apps.proved_rollback import ensure_golden

    one, two = releases.release("icons", 1), releases.release("icons", 2)
    asked = Prediction("resp_1", "r", time.time(), RequestKind.EMBEDDINGS, "icons", 1, one.model)
    releases.database.ensure_operations()
    with releases.database.writing() as connection:
        add_predictions(connection, [row_of(asked)])
    with pytest.raises(Undecided, match="was not measured"):
        promote(two.ref, releases, "ada", "better")
    ensure_golden(releases, one, two)
    with pytest.raises(Refused, match="would break search indexes") as refused:
        start_canary(two.ref, releases, RolloutPlan(), "ada", "better")
    assert "--new-space" in refused.value.fix
    assert promote(two.ref, releases, "ada", "better", new_space=True).number == 2
    same = add_release(releases, make_tiny_model(tmp_path / "same", seed=1))
    promote(same.ref, releases, "ada", "the same model again")  # nobody has embedded anything with icons@2


def test_a_shadow_candidate_computes_along_and_answers_nobody(releases: Store, served: str) -> None:
    plan = RolloutPlan(steps=(), shadow=True, keep_inputs=True)
    rollout = start_canary("icons@2", releases, plan, "ada", "look first")
    wait(lambda: servers(releases) and "icons@2" in servers(releases)[0].resident and servers(releases)[0].rollout)

    def shadow() -> ShadowCounts:
        with releases.database.reading() as connection:
            return read_shadow(connection, rollout.id)

    picture = {"input": "data:image/png;base64," + base64.b64encode(solid_image("red")).decode()}
    with httpx.Client(base_url=served, timeout=60) as client:

        def differing() -> int:
            for body in ({"input": "a red heart"}, picture):
                answer = client.post("/v1/embeddings", json=body)
                assert (answer.status_code, answer.headers["clerestory-release"]) == (200, "icons@1")
                assert "clerestory-arm" not in answer.headers
                time.sleep(0.3)
            return shadow().differing

        wait(lambda: differing() and shadow().compared > 3)
    found = shadow()
    assert found.compared >= found.differing > 0
    assert found.failed == 0
    assert all(cosine < 0.99 and len(digest) == 64 for digest, cosine, _ in found.examples)
