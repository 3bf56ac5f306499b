"""The model works on one thing at a time, in a thread, behind a queue with a bound."""

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


class Work:
    """One worker thread and the people waiting for it.

    A request is admitted once, before its body is read, and may then have several things done. The thread releases
    the event loop, so pages and health checks answer while the model works.

    Args:
        most: how many requests may be admitted at once, the one that is being worked on included.
    """

    def __init__(self, most: int = 16) -> None:
        self.most = most
        self.admitted = 0
        self.done = 0
        self.seconds = 0.05  # of one piece of work, an exponentially weighted average
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @contextmanager
    def admit(self) -> Iterator[None]:
        """A place in the queue for the length of a ``with`` block.

        Raises:
            Busy: every place is taken.
        """
        if self.admitted >= self.most:
            raise Busy(after=max(1, math.ceil(self.admitted * self.seconds)))
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def run(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do one piece of work in the thread, in the order of asking."""

        def timed() -> tuple[R, float]:
            start = time.perf_counter()
            result = job(*args, **kwargs)
            return result, time.perf_counter() - start

        result, seconds = await asyncio.get_running_loop().run_in_executor(self._thread, timed)
        self.done += 1
        self.seconds += 0.2 * (seconds - self.seconds)
        return result

    def close(self) -> None:
        """Let the running piece of work finish, and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
