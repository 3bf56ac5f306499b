"""The access log: one JSON line for each request, without its texts and images.

The event loop only appends to a list; a thread writes several lines at once, so that a slow disk delays no request.
A file that was moved away, as programs that rotate logs do, is opened anew.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson

from clerestory.core.errors import InputError
from clerestory.core.files import read_problem
from clerestory.web.request_trace import RequestTrace

LOG = logging.getLogger("clerestory.web")
AUTO, STDERR, OFF = "auto", "stderr", "off"
FLUSH_SECONDS = 0.25
MAX_WAITING = 100_000  # lines; while the disk does not take more, the oldest ones are dropped


class AccessLog:
    """Writes lines to stderr or to a file.

    Args:
        target: ``stderr``, ``off``, the path of a file, or ``auto``: stderr unless it is a terminal.

    Raises:
        InputError: the file cannot be opened.
    """

    def __init__(self, target: str) -> None:
        if target == AUTO:
            target = OFF if sys.stderr.isatty() else STDERR
        self._path = Path(target) if target not in {STDERR, OFF} else None
        self.is_on = target != OFF
        self._file: IO[bytes] | None = None
        self._lines: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = False
        if self._path is not None:
            try:
                self._file = self._path.open("ab", buffering=0)
            except OSError as error:
                problem = f"the access log {self._path} cannot be opened: {read_problem(error)}"
                raise InputError(problem, "name another file in log.access") from error

    def start(self) -> None:
        """Start the thread that writes."""
        if self.is_on:
            self._thread = threading.Thread(target=self._write_until_ended, name="access log", daemon=True)
            self._thread.start()

    def add(self, route: str, method: str, trace: RequestTrace, seconds: float) -> None:
        """Add the line of a request that ended."""
        line = {
            "time": datetime.fromtimestamp(trace.at, UTC).isoformat(timespec="milliseconds"),
            "request": trace.request,
            "response": trace.response,
            "method": method,
            "route": route,
            "status": trace.status,
            "ms": round(1000 * seconds, 2),
            "version": trace.loaded.ref if trace.loaded is not None else "",
            "bytes": trace.sent,
        }
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Write the lines that wait, and end the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(FLUSH_SECONDS * 8)
        if self._file is not None:
            self._file.close()

    def _write_until_ended(self) -> None:
        while not self._ended.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._open_anew()
            if self._file is not None:
                self._file.write(b"".join(lines))
            else:
                sys.stderr.write(b"".join(lines).decode("utf-8"))
                sys.stderr.flush()
        except (OSError, ValueError) as error:
            if not self._failed:
                self._failed = True
                LOG.error("the access log cannot be written: %s", error)
        else:
            self._failed = False

    def _open_anew(self) -> None:
        """Open the file again if it is no longer where it was."""
        if self._file is None or self._path is None:
            return
        try:
            same = os.fstat(self._file.fileno()).st_ino == self._path.stat().st_ino
        except FileNotFoundError:
            same = False
        if not same:
            self._file.close()
            self._file = self._path.open("ab", buffering=0)
