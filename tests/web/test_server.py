"""A real process: it starts, says where, and on SIGTERM lets everything that is under way finish."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from tests.support.disks import FULL, READ_ONLY, can_mount, small_disk
from tests.support.images import solid_image
from tests.web.conftest import World, wait_ready

PROGRAM = """
import sys
from clerestory.data import open_data
from clerestory.store import open_store
from clerestory.web import create_app, run
with open_store(sys.argv[1]) as store:
    run(create_app(store, None), port=0, on_listening=lambda url: print(url, flush=True), drain_seconds=6)
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
        assert "has not been measured" in page.text


@pytest.mark.skipif(not can_mount(), reason="a small disk cannot be mounted here")
@pytest.mark.parametrize(("state", "reason"), [("full", FULL), ("read-only", READ_ONLY)])
def test_serving_lists_and_reports_go_on_from_a_full_or_read_only_disk(
    world: World, tmp_path: Path, state: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loads a model and searches, as a server does that starts on such a disk: about half a minute for both."""
    from starlette.testclient import TestClient
    from tests.web.conftest import BASE

    from clerestory.cli.main import run
    from clerestory.store import open_store
    from clerestory.web import create_app

    world.store.close()
    size = sum(path.stat().st_size for path in world.store.home.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", megabytes=8 + 2 * size // 2**20) as disk:
        home = disk.folder / "home"
        shutil.copytree(world.store.home, home)
        disk.fill() if state == "full" else disk.make_read_only()

        where = ["--home", str(home), "--quiet"]
        assert run(["release", "list", *where]) == 0
        assert run(["release", "verify", *where]) == 0
        assert run(["report", "icons@live", "--out", str(tmp_path / "report.html"), *where]) == 0
        assert (tmp_path / "report.html").stat().st_size > 10_000
        capsys.readouterr()
        assert run(["report", "icons@live", *where]) == 2
        message = capsys.readouterr().err
        assert reason in message or "is not writable" in message
        assert "free space" in message or "--out" in message

        store = open_store(home)
        with TestClient(create_app(store, world.data), base_url=BASE, headers={"origin": BASE}) as client:
            wait_ready(client)
            assert client.post("/v1/embeddings", json={"input": "a cat"}).status_code == 200
            for page in ("/?q=a+happy+cat", "/releases", "/describe"):
                answer = client.get(page)
                assert answer.status_code == 200, page
                assert "damaged" not in answer.text
            assert "<img" in client.get("/?q=a+happy+cat").text
        store.close()
