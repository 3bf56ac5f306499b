"""A server in a process of its own, which can be stopped by signals."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from tests.web.conftest import wait_ready

PROGRAM = """
import sys
from clerestory.store import open_store
from clerestory.web import create_app, run
with open_store(sys.argv[1]) as store:
    listening = lambda url: print(url, flush=True)
    drain, stop = map(float, sys.argv[2:])
    run(create_app(store, None), port=0, on_listening=listening, drain_seconds=drain, stop_seconds=stop)
"""


class ServerProcess(NamedTuple):
    """A server, and a client that sends the headers of one of its own pages."""

    process: subprocess.Popen[str]
    client: httpx.Client


@contextmanager
def server_process(home: Path, drain_seconds: float = 1.0, stop_seconds: float = 30.0) -> Iterator[ServerProcess]:
    """A server of the store in ``home`` with its model loaded; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(home), str(drain_seconds), str(stop_seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    try:
        base = process.stdout.readline().strip().rstrip("/")
        with httpx.Client(base_url=base, headers={"origin": base}, timeout=120) as client:
            wait_ready(client)
            yield ServerProcess(process, client)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


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
