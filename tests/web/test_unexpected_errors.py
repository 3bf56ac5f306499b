"""A bug of a real server: its answer has every header, and the connection is of use afterwards."""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.responses import StreamingResponse
from starlette.routing import Route
from tests.support.released_store import released_store
from tests.web.small_server import running

from clerestory.stages.release.promotion import start_canary
from clerestory.store import Store
from clerestory.store.operations.rollouts import RolloutPlan
from clerestory.web import create_app

BODY = json.dumps({"input": "a red heart"})
JSON = {"content-type": "application/json"}


@pytest.fixture
def served(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.client.HTTPConnection]:
    """One connection to a server whose models all fail, during a rollout that cannot end in this test."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("a secret of the server")

    async def breaks_off(_: object) -> StreamingResponse:
        def pieces() -> Iterator[bytes]:
            yield b"the beginning"
            raise ZeroDivisionError

        return StreamingResponse(pieces())

    released_store(store, tmp_path / "models", 2)
    start_canary("icons@2", store, RolloutPlan(steps=(0.5,), new_space=True), "ada", "try it")
    monkeypatch.setattr("clerestory.web.embeddings.embedder_of", fails)
    app = create_app(store, None)
    app.router.routes.insert(0, Route("/breaks-off", breaks_off))
    with running(app) as base:
        connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)
        yield connection
        connection.close()


def post(
    connection: http.client.HTTPConnection, body: str = BODY, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request("POST", "/v1/embeddings", body, {**JSON, **headers})
    answer = connection.getresponse()
    return answer, answer.read()


def test_a_bug_is_answered_with_every_header_on_a_connection_that_goes_on(
    served: http.client.HTTPConnection, caplog: pytest.LogCaptureFixture
) -> None:
    arms = set()
    long = json.dumps({"input": ["a red heart"] * 300})
    for i in range(400):
        with caplog.at_level(logging.ERROR):
            answer, content = post(served, long if i % 2 else BODY, **{"x-request-id": f"bug-{i}"})
        socket = served.sock
        assert answer.status == 500
        error = json.loads(content)["error"]
        assert (error["type"], error["request_id"]) == ("server_error", f"bug-{i}")
        assert b"secret" not in content
        assert answer.headers["x-request-id"] == f"bug-{i}"
        assert answer.headers["clerestory-response"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers.get_all("clerestory-release") in (["icons@1"], ["icons@2"])
        if arm := answer.headers["clerestory-arm"]:
            assert answer.headers["clerestory-release"] == {"candidate": "icons@2", "stable": "icons@1"}[arm]
            arms.add(arm)
        served.request("GET", "/healthz")
        assert served.getresponse().read()
        assert served.sock is socket, "the server has closed the connection"
        if len(arms) == 2:
            break
    assert arms == {"candidate", "stable"}
    assert "ZeroDivisionError" in caplog.text, "the log has the traceback"


def test_a_response_that_has_begun_is_broken_off(served: http.client.HTTPConnection) -> None:
    served.request("GET", "/breaks-off")
    answer = served.getresponse()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
