"""SVG drawings to 64×64 PNG on white, over all cores.

Workers are plain child processes (see ``serve``) that read one JSON list of drawings a line
and answer with one JSON list of base64 PNGs. Unlike ``multiprocessing`` they never import the caller's main script,
so a script may open the icons at its top level; and they end by themselves when the parent dies.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import resvg_py

from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import QUIET, Progress

SIZE = 64
CHUNK = 100


def drawing(icon: Mapping[str, Any], icon_set: Mapping[str, Any]) -> str:
    """The SVG document of one Iconify icon, its view box made square (centred) so that nothing is stretched."""
    left, top = float(icon.get("left", 0)), float(icon.get("top", 0))
    width = float(icon.get("width", icon_set.get("width", 16)))
    height = float(icon.get("height", icon_set.get("height", 16)))
    side = max(width, height)
    left, top = left - (side - width) / 2, top - (side - height) / 2
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="{left:g} {top:g} {side:g} {side:g}">{icon["body"]}</svg>'
    )


def render(svg: str) -> bytes:
    """PNG bytes of one drawing. System fonts are not looked at, so every machine draws the same."""
    picture = resvg_py.svg_to_bytes(
        svg_string=svg, width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True
    )
    return bytes(picture)


def render_all(drawings: Sequence[str], progress: Progress = QUIET, workers: int | None = None) -> list[bytes]:
    """PNG bytes of every drawing, in order.

    Raises:
        ClerestoryError: a worker process died.
    """
    count = workers or _cores()
    starts = range(0, len(drawings), CHUNK)
    pool: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    staff = [_Worker() for _ in range(count)]
    lock = threading.Lock()

    def one(start: int) -> list[bytes]:
        worker = pool.get()
        try:
            pictures = worker.work(drawings[start : start + CHUNK])
        finally:
            pool.put(worker)
        with lock:
            task.advance(len(pictures))
        return pictures

    try:
        for worker in staff:
            pool.put(worker)
        with progress.task("Rendering icons", len(drawings)) as task, ThreadPoolExecutor(count) as threads:
            return [picture for chunk in threads.map(one, starts) for picture in chunk]
    finally:
        for worker in staff:
            worker.close()


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One child process that renders."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-c", "from clerestory.data.render import serve; serve()"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def work(self, drawings: Sequence[str]) -> list[bytes]:
        try:
            self.stdin.write(json.dumps(drawings).encode() + b"\n")
            self.stdin.flush()
            line = self.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise ClerestoryError("a process that renders icons ended early", "free some memory and try again")
        return [base64.b64decode(picture) for picture in json.loads(line)]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()
        self.process.wait()


def serve() -> None:
    """What a worker process does: one answer a line until its input ends."""
    for line in sys.stdin.buffer:
        pictures = [base64.b64encode(render(svg)).decode() for svg in json.loads(line)]
        sys.stdout.buffer.write(json.dumps(pictures).encode() + b"\n")
        sys.stdout.buffer.flush()
