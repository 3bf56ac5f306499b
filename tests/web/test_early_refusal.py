"""While the model is overloaded, requests for it are refused after their head, as the application would refuse them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from tests.web.small_server import running

from clerestory.store import open_store
from clerestory.web import create_app, http_protocol
from clerestory.web.state import ServerState

PATH = "/v1/embeddings"
TINY = {"input": "a cat"}
SECOND = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Starlette:
    return create_app(open_store(tmp_path_factory.mktemp("refusal") / "home"), None, model=str(tiny_model))


@pytest.fixture(scope="module")
def base(app: Starlette) -> Iterator[str]:
    with running(app) as url:
        yield url


@contextmanager
def overloaded(app: Starlette) -> Iterator[ServerState]:
    """A server with an hour of work."""
    server: ServerState = app.state.server
    server.queue.admitted += 1
    server.queue.jobs.units += 3600
    before, server.queue.jobs.unit_seconds.value = server.queue.jobs.unit_seconds.value, 1.0
    try:
        yield server
    finally:
        server.queue.admitted -= 1
        server.queue.jobs.units -= 3600
        server.queue.jobs.unit_seconds.value = before


def exchange(base: str, *pieces: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    with socket.create_connection((urlsplit(base).hostname, urlsplit(base).port), timeout=30) as opened:
        for piece in pieces:
            opened.sendall(piece)
        return b"".join(iter(lambda: opened.recv(65_536), b""))


def head(*lines: str) -> bytes:
    return "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def test_it_equals_the_refusal_by_the_application(base: str, app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {"x-request-id": "mine-1"}
    with overloaded(app) as server, httpx.Client(base_url=base) as client:
        rejections = server.metrics.rejections["deadline"]
        early = client.post(PATH, json=TINY, headers=sent)
        again = client.post(PATH, json=TINY)
        monkeypatch.setattr(http_protocol, "early_refusal", lambda *_: None)
        late = client.post(PATH, json=TINY, headers=sent)
        client.get("/healthz")  # the last one is counted after its response
        assert server.metrics.rejections["deadline"] == rejections + 3
        assert server.metrics.requests[PATH, "POST", 429, "", ""] == 3
    assert early.status_code == late.status_code == 429
    assert early.json() == late.json()
    assert dict(early.headers) == dict(late.headers)
    assert early.headers["x-request-id"] == "mine-1" == early.json()["error"]["request_id"]
    assert again.json()["error"]["request_id"] == again.headers["x-request-id"] != "mine-1"


def test_the_connection_goes_on_after_a_small_body_in_pieces(base: str, app: Starlette) -> None:
    body = json.dumps(TINY).encode()
    with overloaded(app):
        answer = exchange(base, head(f"Content-Length: {len(body)}"), body[:5], body[5:] + SECOND)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 200 OK" in answer


def test_a_large_body_is_dropped_and_the_response_arrives(base: str, app: Starlette) -> None:
    size = 8_000_000
    with overloaded(app):
        declared = exchange(base, head(f"Content-Length: {size}"), b"x" * size)
        chunked = exchange(base, head("Transfer-Encoding: chunked"), b"2\r\n{}\r\n" * 50_000, b"0\r\n\r\n")
        awaiting = exchange(base, head(f"Content-Length: {size}", "Expect: 100-continue"))
    for answer in (declared, chunked, awaiting):
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"connection: close" in answer
        assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_never_arrives_ends_the_connection(
    base: str, app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.05)
    with overloaded(app):
        answer = exchange(base, head("Content-Length: 100"), b"{")
    assert answer.startswith(b"HTTP/1.1 429 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"x-request-timeout": "soon"}, 400),
        ({"x-request-timeout": "9999999"}, 429),
    ],
)
def test_what_is_wrong_with_a_request_is_said_as_ever(
    base: str, app: Starlette, headers: dict[str, str], status: int
) -> None:
    with overloaded(app):
        assert httpx.post(base + PATH, json=TINY, headers=headers).status_code == status


def test_a_request_that_can_wait_is_admitted_and_other_urls_are_answered(base: str, app: Starlette) -> None:
    with overloaded(app) as server:
        server.queue.jobs.unit_seconds.value = 0.001  # 3.6 s of work
        assert httpx.post(base + PATH, json=TINY, headers={"x-request-timeout": "5"}).status_code == 429
        assert httpx.post(base + PATH, json=TINY, headers={"x-request-timeout": "30"}).status_code == 200
        assert httpx.get(base + "/healthz").status_code == 200
        assert httpx.get(base + "/v1/models").status_code == 200


def test_who_comes_back_too_early_waits_for_the_refusal(
    base: str, app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HOLD_SECONDS", 0.3)
    with overloaded(app), httpx.Client(base_url=base) as client:
        answers = [client.post(PATH, json=TINY) for _ in range(3)]
    assert [each.status_code for each in answers] == [429] * 3
    assert all(each.elapsed.total_seconds() >= 0.25 for each in answers[1:])


def test_many_requests_in_one_piece_are_refused_in_order(base: str, app: Starlette) -> None:
    body = json.dumps(TINY).encode()
    requests = [head(f"Content-Length: {len(body)}", f"X-Request-ID: id-{i}") + body for i in range(200)]
    with overloaded(app):
        answer = exchange(base, b"".join(requests) + SECOND)
    found = [line.split(b": ")[1] for line in answer.split(b"\r\n") if line.startswith(b"x-request-id: id-")]
    assert found == [b"id-%d" % i for i in range(200)]
