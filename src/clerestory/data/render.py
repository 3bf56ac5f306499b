"""Rendering of SVG documents to 64×64 PNG on white, on all cores.

Workers are plain child processes (see ``worker_main``) that read one JSON list of documents per line and answer with
one JSON list of base64 PNGs. Unlike those of ``multiprocessing``, they never import the main script of the caller, so a
script may open the icons at its top level; and they exit by themselves when the parent dies.
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


def svg_document(icon: Mapping[str, Any], icon_set: Mapping[str, Any]) -> str:
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
    """PNG bytes of one document. System fonts are ignored, so that every machine renders the same."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True)
    return bytes(png)


def render_all(documents: Sequence[str], progress: Progress = QUIET, num_workers: int | None = None) -> list[bytes]:
    """PNG bytes of every document, in order.

    Raises:
        ClerestoryError: a worker process died.
    """
    count = num_workers or _cores()
    starts = range(0, len(documents), CHUNK)
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    workers = [_Worker() for _ in range(count)]
    lock = threading.Lock()

    def render_chunk(start: int) -> list[bytes]:
        worker = idle.get()
        try:
            images = worker.render(documents[start : start + CHUNK])
        finally:
            idle.put(worker)
        with lock:
            task.advance(len(images))
        return images

    try:
        for worker in workers:
            idle.put(worker)
        with progress.task("Rendering icons", len(documents)) as task, ThreadPoolExecutor(count) as threads:
            return [image for chunk in threads.map(render_chunk, starts) for image in chunk]
    finally:
        for worker in workers:
            worker.close()


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One child process that renders."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-c", "from clerestory.data.render import worker_main; worker_main()"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def render(self, documents: Sequence[str]) -> list[bytes]:
        try:
            self.stdin.write(json.dumps(documents).encode() + b"\n")
            self.stdin.flush()
            line = self.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise ClerestoryError("a process that renders icons ended early", "free some memory and try again")
        return [base64.b64decode(image) for image in json.loads(line)]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()
        self.process.wait()


def worker_main() -> None:
    """The main function of a worker process: one line out per line in, until the input ends."""
    for line in sys.stdin.buffer:
        images = [base64.b64encode(render(svg)).decode() for svg in json.loads(line)]
        sys.stdout.buffer.write(json.dumps(images).encode() + b"\n")
        sys.stdout.buffer.flush()
