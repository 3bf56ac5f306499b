"""A bounded queue in front of the model, which runs one job at a time in a thread of its own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from clerestory.web.security import Busy

P = ParamSpec("P")
R = TypeVar("R")
MAX_ADMITTED = 256
MAX_RETRY_AFTER = 60  # seconds
SMOOTHING = 0.2  # weight of the newest value in a running average


class RunningMean:
    """An exponentially weighted average of durations in seconds."""

    def __init__(self, initial: float) -> None:
        self.value = initial
        self.count = 0

    def add(self, seconds: float) -> None:
        """Take in one more duration."""
        self.count += 1
        self.value += SMOOTHING * (seconds - self.value)


class InferenceQueue:
    """One worker thread and the requests that wait for it.

    A request is admitted once its body has been read, so that a slow client occupies no place; it may then run several
    jobs. The event loop stays free, so pages and health checks answer while the model runs.

    Args:
        max_admitted: the maximum number of requests admitted at once, the running one included.
    """

    def __init__(self, max_admitted: int = MAX_ADMITTED) -> None:
        self.max_admitted = max_admitted
        self.admitted = 0
        self.place_seconds = RunningMean(1.0)  # how long a request occupies its place
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Occupy a place in the queue for the length of a ``with`` block.

        Raises:
            Busy: the queue is full.
        """
        if self.admitted >= self.max_admitted:
            raise Busy(retry_after=min(MAX_RETRY_AFTER, max(1, math.ceil(self.place_seconds.value))))
        self.admitted += 1
        start = time.perf_counter()
        try:
            yield
        finally:
            self.admitted -= 1
            self.place_seconds.add(time.perf_counter() - start)

    async def run(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a job in the worker thread, first come, first served."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: job(*args, **kwargs))

    def call(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As ``run``, for another thread than that of the event loop, which waits for the result.

        Raises:
            RuntimeError, CancelledError: the queue is closed.
        """
        return self._thread.submit(job, *args, **kwargs).result()

    def close(self) -> None:
        """Wait for the running job, drop the others and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
