"""A real process: it starts, says where, and on SIGTERM lets everything that is under way finish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
from tests.support.images import solid_image
from tests.web.conftest import World, wait_ready

PROGRAM = """
import sys
from clerestory.data import open_data
from clerestory.store import open_store
from clerestory.web import create_app, run
from clerestory.web.serve_config import HttpConfig, LogConfig, ServeConfig
with open_store(sys.argv[1]) as store:
    config = HttpConfig(drain_seconds=6)
    app = create_app(store, None, config=ServeConfig(log=LogConfig(access="off")))
    run(app, port=0, on_listening=lambda url: print(url, flush=True), config=config)
print("ended", flush=True)
"""


def test_sigterm_drains(world: World, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(world.store.home)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        try:
            base = process.stdout.readline().strip().rstrip("/")
            with httpx.Client(base_url=base, headers={"origin": base}, timeout=120) as client:
                wait_ready(client)
                went = threading.Event()
                answers: list[httpx.Response] = []

                def slow() -> object:
                    """A body whose second half comes only after the signal."""
                    yield b'{"input": '
                    went.wait(60)
                    yield b'"a slow request"}'

                def ask() -> None:
                    kind = {"content-type": "application/json"}
                    content = slow()
                    answers.append(httpx.post(f"{base}/v1/embeddings", content=content, headers=kind, timeout=120))  # type: ignore[arg-type]  # bytes

                asking = threading.Thread(target=ask)
                asking.start()
                client.get("/healthz")
                process.send_signal(signal.SIGTERM)
                while (ready := client.get("/readyz")).status_code == 200:
                    pass
                assert ready.json()["reason"] == "the server is shutting down"
                # A moment longer, new requests are still answered.
                assert client.post("/v1/embeddings", json={"input": "cat"}).status_code == 200
                went.set()
                asking.join()
                assert answers[0].status_code == 200
            assert process.wait(120) == 0
            assert process.stdout.read() == "ended\n"
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
    assert (tmp_path / "log").read_text(encoding="utf-8") == ""


def test_without_pictures_everything_but_search_works(world: World) -> None:
    from starlette.testclient import TestClient
    from tests.web.conftest import BASE

    from clerestory.web import create_app

    with TestClient(create_app(world.store, None), base_url=BASE, headers={"origin": BASE}) as client:
        wait_ready(client)
        answer = client.get("/")
        assert answer.status_code == 400
        assert "without pictures" in answer.text
        assert "Try it with" not in client.get("/describe").text
        page = client.post("/describe", files=[("images", ("a.png", solid_image()))])
        assert "0 of 1 accepted" in page.text
        assert "The confidence is not measured here" in page.text
