"""The end of a server: in time, without a 500, and without losing what was acknowledged. Real processes, so slow."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from tests.support.images import solid_image
from tests.support.released_store import released_store
from tests.support.server_process import accept_until_killed, accepted_captions, server_process

from clerestory.store import open_store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shutdown")
    with open_store(folder / "home") as store:
        released_store(store, folder, 1)
    return folder / "home"


def test_a_request_that_the_limit_cuts_off_is_not_a_500_and_the_process_ends_in_time(home: Path) -> None:
    with server_process(home, drain_seconds=60, stop_seconds=65) as (process, client):
        address = (client.base_url.host, client.base_url.port)
        stalled = socket.create_connection((address[0], address[1] or 0), timeout=60)
        head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        head += "content-length: 99\r\n"
        stalled.sendall(f"{head}\r\n{{".encode())
        assert client.get("/healthz").headers.get("connection") != "close"
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while (answer := client.get("/readyz")).status_code == 200:
            pass
        assert answer.headers["connection"] == "close"  # so that nothing is sent into a closed connection
        process.send_signal(signal.SIGTERM)  # ends the wait for the load balancer
        response = b"".join(iter(lambda: stalled.recv(65536), b""))
        stalled.close()
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b"shutting down" in response
        assert b"connection: close" in response.lower()
        assert process.wait(60) == 0
        assert time.monotonic() - start < 60  # only that it ends; benches time


def test_clients_that_keep_their_connections_get_answers_until_the_end(home: Path) -> None:
    """Each request gets a 200 or, on a new connection, a refusal: never a reset after an answer."""
    problems: list[str] = []
    with server_process(home) as (process, client):
        ended = threading.Event()

        def ask() -> None:
            import httpx

            with httpx.Client(base_url=client.base_url, timeout=60) as own:
                while not ended.is_set():
                    try:
                        answer = own.post("/v1/embeddings", json={"input": "cat"})
                    except httpx.ConnectError:
                        return
                    except httpx.HTTPError as error:
                        problems.append(repr(error))
                        return
                    if answer.status_code != 200:
                        problems.append(answer.text)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        client.get("/healthz")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        ended.set()
        for thread in threads:
            thread.join()
    assert problems == []


def test_no_accepted_caption_is_lost_by_a_kill(home: Path) -> None:
    """Two kills; `make bench-serving` has twenty."""
    for kill_after_s in (0.05, 0.3):
        review, acknowledged = accept_until_killed(home, solid_image(), kill_after_s)
        assert set(acknowledged) <= set(accepted_captions(home, review))
