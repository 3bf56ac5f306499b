"""The clock of a computer jumps during a rollout: the schedule of the steps follows the time that has passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.support.released_store import released_store
from tests.web.small_server import running

from clerestory.stages.release.promotion import start_canary
from clerestory.store import Store
from clerestory.store.operations.rollouts import (
    Guardrail,
    Rollout,
    RolloutPlan,
    RolloutState,
    list_rollouts,
    read_evidence,
)
from clerestory.web import create_app

DAY = 86_400.0


def newest(store: Store) -> Rollout:
    with store.database.reading() as connection:
        return list_rollouts(connection, "icons", 1)[0]


def counted(store: Store) -> int:
    with store.database.reading() as connection:
        evidence = read_evidence(connection, newest(store).id)
    return evidence[Guardrail.ERRORS].counts.candidate


def wait(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_step_is_neither_hurried_nor_held_up_by_the_clock(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    released_store(store, tmp_path / "models", 2)
    plan = RolloutPlan(steps=(0.5, 0.9), step_every_s=8, min_requests=3, new_space=True, max_latency_s=60)
    with running(create_app(store, None)) as base, httpx.Client(base_url=base, timeout=60) as client:
        start_canary("icons@2", store, plan, "ada", "try it")
        begun = time.monotonic()

        def embed() -> httpx.Response:
            answer = client.post("/v1/embeddings", json={"input": "a red heart"})
            assert answer.status_code == 200
            return answer

        wait(lambda: "clerestory-arm" in embed().headers)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        wait(lambda: embed() and newest(store).step == 1)
        assert time.monotonic() - begun >= plan.step_every_s - 0.5  # not hurried; the deadline of wait: not held up
        assert counted(store) >= plan.min_requests
        assert newest(store).state is RolloutState.RUNNING
        assert client.get("/readyz").json()["served"] == "icons@1"
