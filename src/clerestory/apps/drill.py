"""A drill: something is broken on purpose in a throw-away copy of a store, with a real server and real requests.

Measurements: the time until an incident is opened, the answers of a wrong release, and the requests that failed.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from clerestory.core.digest import canonical
from clerestory.core.errors import InputError, Undecided
from clerestory.core.progress import QUIET, Progress
from clerestory.core.release import Decision, Policy
from clerestory.models.starter import starter_folder
from clerestory.stages.release import promote
from clerestory.stages.watch.checks import IncidentConfig, StoreChecks
from clerestory.store import Store, open_store
from clerestory.store.operations.incidents import AlertKind, Incident, incidents

DrillKind = Literal["changed-alias", "killed-process", "full-queue"]
DETECTS = {
    "changed-alias": AlertKind.INTEGRITY,
    "killed-process": AlertKind.HEARTBEAT,
    "full-queue": AlertKind.QUEUE,
}
NAME = "drill"
READY_S, DETECT_S = 120.0, 30.0
CONFIG = IncidentConfig(every_seconds=0.25, window_seconds=30, min_requests=20, lost_seconds=2.0, min_free_bytes=0)
_URL = re.compile(r"http://[^\s/]+")


@dataclass(frozen=True, slots=True)
class DrillResult:
    """What a drill measured.

    Attributes:
        kind: what was broken.
        detected: whether an incident of the right kind was opened.
        detect_s: from the fault to the incident; None if there was none.
        recover_s: from the fault to the first good answer after the last failed or refused one; None if none came.
        requests: how many requests were sent after the fault.
        failed: how many of them got no answer, or a status of 500 or above.
        refused: how many got 429.
        bad_answers: how many were answered by a release that should not answer.
        title: of the incident.
    """

    kind: DrillKind
    detected: bool
    detect_s: float | None
    recover_s: float | None
    requests: int
    failed: int
    refused: int
    bad_answers: int
    title: str = ""


@dataclass(slots=True)
class _Answer:
    at: float
    status: int  # 0 without an answer
    release: str


@dataclass
class _Traffic:
    """Clients that send one request after another until they are stopped."""

    clients: int
    url: str
    answers: list[_Answer] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> _Traffic:
        for _ in range(self.clients):
            thread = threading.Thread(target=self._send, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def _send(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not self._stop.is_set():
                status, release = 0, ""
                try:
                    answer = client.post(f"{self.url}/v1/embeddings", json={"model": NAME, "input": "a red shoe"})
                    status, release = answer.status_code, answer.headers.get("clerestory-release", "")
                except httpx.HTTPError:
                    self._stop.wait(0.05)
                self.answers.append(_Answer(time.time(), status, release))
                self._stop.wait(0.01)


def drill(kind: DrillKind, progress: Progress = QUIET) -> DrillResult:
    """Break something in a throw-away store and measure how it is noticed.

    Raises:
        InputError: there is no such drill.
        Undecided: the server did not start.
    """
    if kind not in DETECTS:
        raise InputError(f"there is no drill {kind!r}", f"the drills are {', '.join(DETECTS)}")
    with tempfile.TemporaryDirectory(prefix="clerestory-drill-") as folder:
        home = Path(folder) / "home"
        with open_store(home, f"sqlite:///{home / 'store.db'}") as store:
            good = _release(store, starter_folder())
            promote(good, store, "drill", "the release before the drill")
            bad = _release(store, starter_folder())
            queue = 1 if kind == "full-queue" else 1024
            progress.write_line(f"drill {kind}: a server of a throw-away store starts")
            with _server(home, queue) as server, _Traffic(24 if queue == 1 else 2, server.url) as traffic:
                _wait(lambda: any(each.status == 200 for each in traffic.answers), READY_S, "no request was answered")
                return _run(kind, store, server, traffic, bad)


def _run(kind: DrillKind, store: Store, server: _Server, traffic: _Traffic, bad: str) -> DrillResult:
    begun = time.time()
    if kind == "changed-alias":
        _change_alias(store, bad)
    elif kind == "killed-process":
        server.kill()
    checks = StoreChecks(store, CONFIG)
    found: Incident | None = None
    restarted = False
    while time.time() - begun < DETECT_S and found is None:
        if kind == "killed-process":
            checks.once()  # as another server of the store does
        found = next((each for each in incidents(store) if each.kind is DETECTS[kind]), None)
        time.sleep(0.05)
    if kind == "killed-process":
        server.start(port=server.port)
        restarted = True
    if restarted:
        count = len(traffic.answers)
        _wait(lambda: any(a.status == 200 for a in traffic.answers[count:]), READY_S, "the server did not come back")
    else:
        time.sleep(1.0)
    after = [each for each in list(traffic.answers) if each.at >= begun]
    troubled = [each.at for each in after if each.status != 200]
    good = [each.at for each in after if each.status == 200 and (not troubled or each.at > troubled[-1])]
    recover = None if not troubled else (good[0] - begun if good else None)
    return DrillResult(
        kind,
        found is not None,
        round(found.opened - begun, 3) if found else None,
        round(recover, 3) if recover is not None else None,
        len(after),
        sum(each.status == 0 or each.status >= 500 for each in after),
        sum(each.status == 429 for each in after),
        sum(each.release == bad for each in after),
        found.title if found else "",
    )


def _release(store: Store, folder: Path) -> str:
    model = store.put_model(folder)
    policy = store.blobs.put(canonical(Policy(NAME, ())))
    decision = Decision("ship", NAME, policy, model, ())
    return store.add_release(NAME, model, [], decision, "drill", "a release of the drill").ref


def _change_alias(store: Store, bad: str) -> None:
    """Point live at another release past Clerestory, as somebody with access to the database would."""
    with closing(sqlite3.connect(store.home / "store.db", timeout=30)) as database, database:
        statement = "UPDATE aliases SET number = ?, generation = generation + 1 WHERE name = ? AND alias = 'live'"
        database.execute(statement, (int(bad.rpartition("@")[2]), NAME))


class _Server:
    def __init__(self, home: Path, queue: int) -> None:
        self._home, self._queue = home, queue
        self.url, self.port = "", 0
        self._process: subprocess.Popen[str] | None = None
        self._log = home.parent / "server.log"

    def start(self, port: int = 0) -> None:
        settings = [
            f"queue.max_requests={self._queue}",
            f"incidents.every_seconds={CONFIG.every_seconds}",
            f"incidents.min_requests={CONFIG.min_requests}",
            f"incidents.window_seconds={CONFIG.window_seconds}",
            "incidents.min_free_bytes=0",
            "log.access=off",
        ]
        command = [sys.executable, "-m", "clerestory", "serve", NAME, "--home", str(self._home), "--port", str(port)]
        empty = self._home.parent / "images"
        empty.mkdir(exist_ok=True)
        command += ["--data", str(empty), "--json", *(word for each in settings for word in ("--set", each))]
        environment = {name: value for name, value in os.environ.items() if name != "CLERESTORY_DB"}
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment)
        _wait(self._is_listening, READY_S, "the server did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _is_listening(self) -> bool:
        text = self._log.read_text(encoding="utf-8", errors="replace")
        if self._process is not None and self._process.poll() is not None:
            raise Undecided(f"the server of the drill ended: {text.strip().splitlines()[-1:]}", "read its log")
        if found := _URL.search(text):
            self.url = found.group()
            self.port = int(self.url.rpartition(":")[2])
        return bool(found)


@contextmanager
def _server(home: Path, queue: int) -> Iterator[_Server]:
    server = _Server(home, queue)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _wait(condition: Callable[[], bool], seconds: float, message: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise Undecided(f"{message} within {seconds:.0f} s", "try again on a machine with less to do")
        time.sleep(0.05)
