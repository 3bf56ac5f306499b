"""Makers of a model, evidence, events and releases, and worker processes that use a store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.postgresql import PostgresServer, run_postgresql

from clerestory.core.codec import Tags
from clerestory.core.evidence import Cost, Evidence, Finding, Interval, Measurement, Subject
from clerestory.core.provenance import now
from clerestory.core.release import Decision, Event
from clerestory.store import Store, open_store

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test process."""
    with run_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Runs a test on both databases: every store that it opens, also in processes of its own, uses this one.

    ``@ON_SQLITE`` and ``@ON_POSTGRESQL`` choose one for tests of what only that one has.
    """
    if request.param == "sqlite":
        monkeypatch.delenv("CLERESTORY_DB", raising=False)
        yield "sqlite"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    with server.schema() as schema:
        monkeypatch.setenv("CLERESTORY_DB", server.url(schema))
        yield "postgresql"


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Store]:
    """A store of its own, on each database."""
    with open_store(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model's."""
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_text('{"dims": [64, 128]}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "tokenizer" / "vocab.txt").write_text("a\nb\n", encoding="utf-8")
    return folder


@pytest.fixture
def make_event() -> Callable[..., Event]:
    """An event about something."""

    def make(subject: str, kind: str = "promoted", **details: str) -> Event:
        return Event(kind, subject, "Ada", "a test", now(), Tags(details))

    return make


@pytest.fixture
def make_evidence(store: Store) -> Callable[..., Evidence]:
    """A piece of evidence with rows and one artifact, whose files are in the store."""

    def make(value: float = 0.5, model: str = "a" * 64, data: str = "b" * 64) -> Evidence:
        measured = Measurement("recall@10", value, "share", 4, Interval(0.0, 1.0, "t"), slice=Tags(split="test"))
        finding = Finding("CLR-E001", "info", "warn", "x", "one sample was not scored")
        return Evidence(
            kind="evaluate",
            subject=Subject(model=model, data=data),
            measurements=(measured,),
            findings=(finding,),
            cost=Cost(1.0, 0.5, 100.25),
            created=now(),
            rows=store.blobs.put(b"rows"),
            artifacts=Tags(log=store.blobs.put(b"log")),
        )

    return make


@pytest.fixture
def add_releases(store: Store, model: Path) -> Callable[[int], str]:
    """Add some releases of the name ``icons``; returns the model's digest."""

    def add(count: int) -> str:
        digest = store.put_model(model)
        for _ in range(count):
            decision = Decision("ship", "p version 1", "0" * 64, digest, ())
            store.add_release("icons", digest, [], decision, "Ada", "a test")
        return digest

    return add


@pytest.fixture
def workers() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``worker.py`` as a process of its own; those still alive at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object, **environment: str) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, str(WORKER), *map(str, words)], subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1, env={**os.environ, **environment}
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
