"""Serving, lists and reports go on from a full or read-only disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.support.disks import FULL, READ_ONLY, can_mount, small_disk
from tests.web.conftest import BASE, wait_ready

from clerestory.cli.main import run
from clerestory.core.codec import Tags
from clerestory.core.release import Decision, Event
from clerestory.core.sample import Dataset
from clerestory.store import open_store
from clerestory.web import create_app

pytestmark = pytest.mark.skipif(not can_mount(), reason="a small disk cannot be mounted here")
REASONS = {"full": FULL, "read-only": READ_ONLY}


@pytest.fixture(params=list(REASONS))
def reason(request: pytest.FixtureRequest) -> str:
    return REASONS[request.param]


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path, reason: str) -> Iterator[Path]:
    """A store with a live release, on a disk that has become full or read-only."""
    size = sum(path.stat().st_size for path in tiny_model.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", megabytes=8 + size // 2**20) as disk:
        with open_store(disk.folder / "home") as store:
            digest = store.put_model(tiny_model)
            store.add_release("icons", digest, [], Decision("ship", "p", "0" * 64, digest, ()), "Ada", "a test")
            store.move_alias("icons", "live", 1, 0, Event("promoted", "icons@1", "Ada", "a test", "2026", Tags()))
        disk.fill() if reason == FULL else disk.make_read_only()
        yield disk.folder / "home"


def test_pages_and_the_api_answer(home: Path, few_icons: Dataset) -> None:
    data = few_icons.filter(lambda sample: sample.split == "test")
    with (
        open_store(home) as store,
        TestClient(create_app(store, data), base_url=BASE, headers={"origin": BASE}) as client,
    ):
        wait_ready(client)
        answer = client.post("/v1/embeddings", json={"input": "a cat"})
        assert answer.status_code == 200
        assert len(answer.json()["data"][0]["embedding"]) > 1
        for page in ("/?q=a+happy+cat", "/releases", "/describe", "/healthz"):
            answer = client.get(page)
            assert answer.status_code == 200, page
            assert "damaged" not in answer.text
        assert "<img" in client.get("/?q=a+happy+cat").text


def test_reports_are_written_elsewhere(
    home: Path, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--home", str(home), "--quiet"]
    assert run(["release", "list", *common]) == 0
    assert run(["report", "icons@live", "--out", str(tmp_path / "report.html"), *common]) == 0
    assert (tmp_path / "report.html").stat().st_size > 1000
    capsys.readouterr()
    assert run(["report", "icons@live", *common]) == 2
    message = capsys.readouterr().err
    assert reason in message or "is not writable" in message
    assert not {"damaged", "unexpected"} & set(message.split())
