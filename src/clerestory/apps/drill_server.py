"""The server and the clients of a drill: a real process on this computer, and real requests that are counted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from clerestory.core.errors import Undecided

READY_S = 120.0
_URL = re.compile(r"http://[^\s/]+")


@dataclass(frozen=True, slots=True)
class DrillAnswer:
    """One answered request.

    Attributes:
        at: when the answer arrived, in seconds since the epoch.
        seconds: how long it took.
        status: of HTTP; 0 if no answer came.
        release: that answered; empty if the answer does not say so.
    """

    at: float
    seconds: float
    status: int
    release: str


@dataclass
class DrillTraffic:
    """Clients that send one request after another to ``/v1/embeddings`` until they are stopped.

    Attributes:
        clients: how many.
        url: of the server.
        name: of the model.
        inputs: what the requests embed, in turn; may be replaced at any time.
        answers: every answer, in the order of their arrival.
    """

    clients: int
    url: str
    name: str
    inputs: Sequence[Any] = ("a red shoe",)
    answers: list[DrillAnswer] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> DrillTraffic:
        for number in range(self.clients):
            thread = threading.Thread(target=self._send, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def count(self, status: int = 200) -> int:
        """How many answers have had a status so far."""
        return sum(each.status == status for each in list(self.answers))

    def _send(self, number: int) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not self._stop.is_set():
                status, release, begun = 0, "", time.monotonic()
                inputs = self.inputs
                body = {"model": self.name, "input": inputs[number % len(inputs)]}
                number += self.clients
                try:
                    answer = client.post(f"{self.url}/v1/embeddings", json=body)
                    status, release = answer.status_code, answer.headers.get("clerestory-release", "")
                except httpx.HTTPError:
                    self._stop.wait(0.05)
                self.answers.append(DrillAnswer(time.time(), time.monotonic() - begun, status, release))
                self._stop.wait(0.01)


class DrillServer:
    """A server of a store, in a process of its own, on a port of this computer that nobody else can reach.

    Args:
        home: the folder of the store.
        name: of the model.
        settings: of the server, such as ``queue.max_requests=1``.
    """

    def __init__(self, home: Path, name: str, settings: Sequence[str]) -> None:
        self._home, self._name, self._settings = home, name, settings
        self.url, self.port = "", 0
        self._process: subprocess.Popen[str] | None = None
        self._log = home.parent / "server.log"

    def start(self, port: int = 0) -> None:
        """Start it, and wait until it listens.

        Raises:
            Undecided: it ended, or does not listen within two minutes.
        """
        command = [sys.executable, "-m", "clerestory", "serve", self._name]
        command += ["--home", str(self._home), "--port", str(port)]
        empty = self._home.parent / "images"
        empty.mkdir(exist_ok=True)
        command += ["--data", str(empty), "--json", *(word for each in self._settings for word in ("--set", each))]
        environment = {name: value for name, value in os.environ.items() if name != "CLERESTORY_DB"}
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment)
        wait_for(self._is_listening, READY_S, "the server did not start")

    def kill(self) -> None:
        """End it at once, without any chance to tidy up."""
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
def drill_server(home: Path, name: str, settings: Sequence[str]) -> Iterator[DrillServer]:
    """A server that listens, and is killed at the end."""
    server = DrillServer(home, name, settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def wait_for(condition: Callable[[], bool], seconds: float, message: str) -> None:
    """Wait until something holds.

    Raises:
        Undecided: it does not within the time.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise Undecided(f"{message} within {seconds:.0f} s", "try again on a machine with less to do")
        time.sleep(0.05)
