"""A slow client is cut off and takes nothing away from others; large bodies wait their turn."""

from __future__ import annotations

import asyncio
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Message
from tests.web.small_server import running

from clerestory.store import open_store
from clerestory.web import create_app
from clerestory.web.http_protocol import READ_BYTES, BoundedHttpProtocol
from clerestory.web.request_body import MIN_BYTES_PER_SECOND, SMALL_BODY_BYTES, ByteBudget, body_chunks
from clerestory.web.security import RequestRejected
from clerestory.web.serve_config import BodyConfig
from clerestory.web.server import server_config

AS_JSON = {"content-type": "application/json"}
HEAD = b"POST %s HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Type: %s\r\n%s\r\n"
JSON, FORM = b"application/json", b"multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
DECLARED, CHUNKED = b"Content-Length: 1000000\r\n", b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Starlette:
    return create_app(open_store(tmp_path_factory.mktemp("slow") / "home"), None, model=str(tiny_model))


@pytest.fixture(scope="module")
def base(app: Starlette) -> Iterator[str]:
    with running(app) as url:
        yield url


def open_upload(base: str, path: bytes, kind: bytes, length: bytes) -> socket.socket:
    opened = socket.create_connection((urlsplit(base).hostname, urlsplit(base).port), timeout=120)
    opened.sendall(HEAD % (path, kind, length))
    return opened


def test_clients_that_never_finish_take_no_place(base: str, app: Starlette) -> None:
    slow = [open_upload(base, b"/v1/embeddings", JSON, DECLARED) for _ in range(128)]
    slow += [open_upload(base, b"/describe", FORM, DECLARED) for _ in range(138)]
    try:
        for each in slow:
            each.sendall(b"--x\r\n")
        with httpx.Client(base_url=base, timeout=120) as client:
            assert client.post("/v1/embeddings", json={"input": "cat"}).status_code == 200
        assert app.state.server.queue.admitted == 0
    finally:
        for each in slow:
            each.close()


@pytest.mark.parametrize(("path", "kind", "start"), [(b"/v1/embeddings", JSON, b""), (b"/describe", FORM, PART)])
@pytest.mark.parametrize(
    ("length", "piece", "limit"),
    [(DECLARED, b"-", "stall_seconds"), (CHUNKED, b"1\r\n-\r\n", "stall_seconds"), (DECLARED, b"-" * 9_000, "")],
)
def test_a_byte_now_and_then_or_a_whole_body_does_not_hold_a_connection(
    base: str,
    app: Starlette,
    monkeypatch: pytest.MonkeyPatch,
    path: bytes,
    kind: bytes,
    start: bytes,
    length: bytes,
    piece: bytes,
    limit: str,
) -> None:
    server = app.state.server
    limits = replace(server.config.body, **{limit or ("upload_seconds" if kind is FORM else "total_seconds"): 0.5})
    monkeypatch.setattr(server, "config", replace(server.config, body=limits))
    ended = threading.Event()

    def drip(upload: socket.socket) -> None:
        while not ended.is_set():  # each pause is shorter than the limit, the whole is not
            try:
                upload.sendall(piece)
            except OSError:
                return
            time.sleep(0.05)

    with open_upload(base, path, kind, length) as upload:
        upload.sendall(start if length is DECLARED or not start else b"%x\r\n%s\r\n" % (len(start), start))
        dripping = threading.Thread(target=drip, args=(upload,))
        dripping.start()
        try:
            answer = upload.recv(4096)
        finally:
            ended.set()
            dripping.join()
    assert answer.startswith(b"HTTP/1.1 408 "), answer


class VirtualTime(selectors.DefaultSelector):
    """The clock of an event loop that never waits: what it would sleep has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


STALL_SECONDS = BodyConfig().stall_seconds


def upload_in_virtual_time(chunks: int, chunk_bytes: int, pause_s: float) -> tuple[int, float]:
    """The bytes received from a client that pauses before each chunk, and the seconds that passed."""
    clock = VirtualTime()
    received = 0

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(clock)
        loop.time = lambda: clock.now
        return loop

    async def upload() -> None:
        nonlocal received
        left = iter(range(chunks - 1, -1, -1))

        async def receive() -> Message:
            await asyncio.sleep(pause_s)
            return {"type": "http.request", "body": bytes(chunk_bytes), "more_body": next(left) > 0}

        async for chunk in body_chunks(Request({"type": "http"}, receive)):
            received += len(chunk)

    with asyncio.Runner(loop_factory=new_loop) as runner, suppress(RequestRejected):
        runner.run(upload())
    return received, clock.now


def test_a_client_at_the_minimum_rate_is_never_too_slow() -> None:
    received, seconds = upload_in_virtual_time(30, MIN_BYTES_PER_SECOND * int(STALL_SECONDS) // 2, STALL_SECONDS / 2)
    assert received == 15 * MIN_BYTES_PER_SECOND * STALL_SECONDS
    assert seconds == pytest.approx(15 * STALL_SECONDS)


def test_a_client_below_the_minimum_rate_is_cut_off_when_it_is_behind_by_the_limit() -> None:
    received, seconds = upload_in_virtual_time(10_000, int(0.09 * MIN_BYTES_PER_SECOND), 0.1)
    assert seconds == pytest.approx(10 * STALL_SECONDS, abs=1.5)
    assert received == pytest.approx(9 * STALL_SECONDS * MIN_BYTES_PER_SECOND, abs=2 * MIN_BYTES_PER_SECOND)


def test_a_body_in_chunks_of_one_byte_is_read_in_small_pieces(base: str) -> None:
    body = b'{"input": "a cat"}'.ljust(60_000)
    with open_upload(base, b"/v1/embeddings", JSON, CHUNKED + b"Connection: close\r\n") as upload:
        upload.sendall(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        answer = b"".join(iter(lambda: upload.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]


def test_no_more_than_a_small_piece_is_parsed_between_two_turns_of_the_event_loop(app: Starlette) -> None:
    sizes: list[int] = []

    class Recorder(BoundedHttpProtocol):
        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))

    async def scenario() -> None:
        config = server_config(app)
        config.load()
        loop = asyncio.get_running_loop()
        state = uvicorn.server.ServerState()
        made = await loop.create_server(lambda: Recorder(config, state, {}), "127.0.0.1", 0)
        async with made:
            _, writer = await asyncio.open_connection(*made.sockets[0].getsockname())
            writer.write(b"x" * 1_000_000)
            while sum(sizes) < 1_000_000:
                await asyncio.sleep(0.01)
            writer.close()

    asyncio.run(scenario())
    assert max(sizes) <= READ_BYTES


def test_large_bodies_share_a_budget_in_order_and_small_ones_pass() -> None:
    order: list[str] = []

    async def scenario() -> None:
        budget = ByteBudget(10 * SMALL_BODY_BYTES)
        leave = asyncio.Event()

        async def take(name: str, size: int) -> None:
            async with budget.reserve(size):
                order.append(name)
                if name == "first":
                    await leave.wait()

        first = asyncio.create_task(take("first", 6 * SMALL_BODY_BYTES))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(take(f"large {i}", 5 * SMALL_BODY_BYTES)) for i in range(3)]
        beyond = asyncio.create_task(take("more than there is", 99 * SMALL_BODY_BYTES))
        await asyncio.sleep(0)
        await take("small", SMALL_BODY_BYTES)
        assert order == ["first", "small"]
        leave.set()
        await asyncio.gather(first, *waiting, beyond)

    asyncio.run(scenario())
    assert order == ["first", "small", "large 0", "large 1", "large 2", "more than there is"]


def test_a_cancelled_reservation_leaves_the_budget_whole() -> None:
    async def scenario() -> None:
        budget = ByteBudget(2 * SMALL_BODY_BYTES)
        async with budget.reserve(2 * SMALL_BODY_BYTES):
            waiting = asyncio.create_task(budget.reserve(2 * SMALL_BODY_BYTES).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with budget.reserve(2 * SMALL_BODY_BYTES):
            pass

    asyncio.run(scenario())


def test_a_large_body_is_answered_from_the_temporary_file(base: str) -> None:
    body = b'{"input": "a cat"' + b" " * 60_000 + b', "user": "' + b"u" * 3 * SMALL_BODY_BYTES + b'"}'
    answer = httpx.post(f"{base}/v1/embeddings", content=body, headers=AS_JSON, timeout=60)
    assert answer.status_code == 200, answer.text


def test_without_space_for_temporary_files_large_bodies_are_refused(
    base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))  # no file can be made there
    content = b'{"input": "' + b"u" * 3 * SMALL_BODY_BYTES + b'"}'
    answer = httpx.post(f"{base}/v1/embeddings", content=content, headers=AS_JSON, timeout=60)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "no_space"
    small = httpx.post(f"{base}/v1/embeddings", json={"input": "cat"}, timeout=60)
    assert small.status_code == 200
