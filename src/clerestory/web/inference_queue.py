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
SMOOTHING = 0.2  # weight of the newest job in the running average of job durations


class InferenceQueue:
    """One worker thread and the requests that wait for it.

    A request is admitted once, before its body is read, and may then run several jobs. The event loop stays free, so
    pages and health checks answer while the model runs.

    Args:
        max_admitted: the maximum number of requests admitted at once, the running one included.
    """

    def __init__(self, max_admitted: int = 16) -> None:
        self.max_admitted = max_admitted
        self.admitted = 0
        self.completed = 0
        self.job_seconds = 0.05  # an exponentially weighted average
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Occupy a place in the queue for the length of a ``with`` block.

        Raises:
            Busy: the queue is full.
        """
        if self.admitted >= self.max_admitted:
            raise Busy(retry_after=max(1, math.ceil(self.admitted * self.job_seconds)))
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def run(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a job in the worker thread, first come, first served."""

        def timed() -> tuple[R, float]:
            start = time.perf_counter()
            result = job(*args, **kwargs)
            return result, time.perf_counter() - start

        result, seconds = await asyncio.get_running_loop().run_in_executor(self._thread, timed)
        self.completed += 1
        self.job_seconds += SMOOTHING * (seconds - self.job_seconds)
        return result

    def close(self) -> None:
        """Wait for the running job, drop the others and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
