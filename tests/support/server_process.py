"""A server in a process of its own, which can be stopped by signals."""

from __future__ import annotations

import csv
import io
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import httpx
from tests.support.forked import ForkedProcess
from tests.web.conftest import wait_ready

from clerestory.store import open_store
from clerestory.web import create_app, run
from clerestory.web.serve_config import HttpConfig


class ServerProcess(NamedTuple):
    """A server, and a client that sends the headers of one of its own pages."""

    process: ForkedProcess
    client: httpx.Client


def _serve(home: Path, address: Connection, drain_seconds: float, stop_seconds: float) -> None:
    with open_store(home) as store:
        app = create_app(store, None)
        config = HttpConfig(drain_seconds=drain_seconds, stop_seconds=stop_seconds)
        run(app, port=0, on_listening=address.send, config=config)


@contextmanager
def server_process(home: Path, drain_seconds: float = 1.0, stop_seconds: float = 30.0) -> Iterator[ServerProcess]:
    """A server of the store in ``home`` with its model loaded; killed at the end."""
    address, sender = multiprocessing.Pipe(duplex=False)
    process = ForkedProcess(_serve, home, sender, drain_seconds, stop_seconds)
    sender.close()
    try:
        base = address.recv().rstrip("/")
        with httpx.Client(base_url=base, headers={"origin": base}, timeout=120) as client:
            wait_ready(client)
            yield ServerProcess(process, client)
    finally:
        process.kill()
        process.wait()
        address.close()


def accept_until_killed(home: Path, picture: bytes, kill_after_s: float) -> tuple[str, list[str]]:
    """Accept one caption after another until the server is killed, ``kill_after_s`` after the first was sent.

    Returns:
        The URL of the review, and the captions whose acceptance was acknowledged.
    """
    acknowledged: list[str] = []
    with server_process(home) as (process, client):
        files = [("images", (f"{i}.png", picture)) for i in range(20)]
        review = client.post("/describe", files=files).headers["location"]
        timer = threading.Timer(kill_after_s, process.kill)
        timer.start()
        try:
            for i in range(1, 21):
                caption = f"caption {i} of {kill_after_s}"
                if client.post(review, data={f"caption-{i}": caption, "do": f"accept-{i}"}).status_code == 303:
                    acknowledged.append(caption)
        except httpx.HTTPError:
            pass  # killed
        finally:
            timer.join()
    return review, acknowledged


def accepted_captions(home: Path, review: str) -> list[str]:
    """The accepted captions of a review, asked of a new server."""
    with server_process(home) as (_, client):
        answer = client.get(f"{review}/captions.csv")
        rows = list(csv.reader(io.StringIO(answer.text))) if answer.status_code == 200 else []
        return [row[1] for row in rows[1:]]
