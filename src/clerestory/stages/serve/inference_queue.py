"""A bounded queue in front of the model, which runs one job at a time in a thread of its own.

A request is admitted if the bounds allow it and if it can be expected to be answered in time: what waits
already, times the measured time that such work takes. From then on it holds a ``Place`` with a deadline; when that
passes, or when the client is gone, what the place waits for is given up before it reaches the model.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from clerestory.core.errors import ClerestoryError
from clerestory.stages.serve.config import QueueConfig

P = ParamSpec("P")
R = TypeVar("R")
MAX_RETRY_AFTER = 60  # seconds
MAX_WAIT_SHARE = 0.6  # of the time of a request; the rest is for its own work, and for an estimate that is too low
SMOOTHING = 0.2  # weight of the newest value in a running average


class Overloaded(ClerestoryError):
    """A request is not admitted: the queue is full, or it could not be answered in time.

    Args:
        reason: the bound: ``requests``, ``bytes``, ``pixels`` or ``deadline``.
        retry_after: after how many seconds it may be admitted, a whole number.
    """

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__("the server is busy", f"try again in {retry_after} s")
        self.reason = reason
        self.retry_after = retry_after


class DeadlineExceeded(ClerestoryError):
    """An admitted request was not answered within its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"there was no answer within {seconds:g} s", "send fewer inputs, or allow more time with X-Request-Timeout"
        )


class ClientGone(ClerestoryError):
    """The client closed its connection before the answer."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection")


class RunningMean:
    """An exponentially weighted average of durations in seconds.

    Args:
        initial: its value before the first duration; None: that duration.
    """

    def __init__(self, initial: float | None = None) -> None:
        self.value = initial or 0.0
        self.count = 0
        self._is_empty = initial is None

    def add(self, seconds: float) -> None:
        """Take in one more duration."""
        self.count += 1
        self.value += (1.0 if self._is_empty else SMOOTHING) * (seconds - self.value)
        self._is_empty = False


class Backlog:
    """Work of one kind that waits: how many units (characters, pixels or jobs), and how long one takes on average."""

    def __init__(self) -> None:
        self.units = 0
        self.unit_seconds = RunningMean()

    @property
    def seconds(self) -> float:
        """How long the model will need for what waits."""
        return self.units * self.unit_seconds.value


class Place:
    """The place of an admitted request.

    Attributes:
        deadline: when it has to be answered, by the clock of the event loop.
        error: why it was given up; None while it is not.
    """

    __slots__ = ("_future", "_queue", "_timer", "_timeout", "bytes", "deadline", "error", "pixels")

    def __init__(self, queue: InferenceQueue, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._queue, self._timeout = queue, timeout
        self.bytes = self.pixels = 0
        self.deadline = loop.time() + timeout
        self.error: ClerestoryError | None = None
        self._future: asyncio.Future[Any] | None = None
        self._timer = loop.call_at(self.deadline, self._expire)

    def add(self, size: int = 0, pixels: int = 0) -> None:
        """Count the bytes and pixels of its inputs.

        Raises:
            Overloaded: they exceed a bound now.
        """
        queue, config = self._queue, self._queue.config
        alone = queue.admitted == 1  # the largest request that the other limits allow has to be answerable
        if size and queue.bytes + size > config.max_bytes and not alone:
            raise queue.overloaded("bytes")
        if pixels and queue.pixels + pixels > config.max_pixels and not alone:
            raise queue.overloaded("pixels")
        self.bytes += size
        self.pixels += pixels
        queue.bytes += size
        queue.pixels += pixels

    async def wait(self, future: asyncio.Future[R]) -> R:
        """The result of a future, which is cancelled when the place is given up.

        Raises:
            DeadlineExceeded, ClientGone: it was given up.
        """
        if self.error is not None:
            future.cancel()
            raise self.error
        self._future = future
        try:
            return await future
        except asyncio.CancelledError:
            if self.error is not None:
                raise self.error from None
            raise
        finally:
            self._future = None

    def give_up(self, error: ClerestoryError) -> None:
        """Cancel what it waits for; the waiting coroutine receives the error."""
        if self.error is None:
            self.error = error
            if self._future is not None:
                self._future.cancel()

    def leave(self) -> None:
        """Free what it occupies."""
        self._timer.cancel()
        self._queue.bytes -= self.bytes
        self._queue.pixels -= self.pixels
        self.bytes = self.pixels = 0

    def _expire(self) -> None:
        self.give_up(DeadlineExceeded(self._timeout))


class InferenceQueue:
    """One worker thread and the requests that wait for it.

    A request is admitted once its body has been read, so that a slow client occupies no place; it may then run several
    jobs. The event loop stays free, so pages and health checks answer while the model runs.

    Args:
        config: the bounds.

    Attributes:
        admitted, bytes, pixels: what is admitted now.
        texts, images, jobs: what waits for the model.
    """

    def __init__(self, config: QueueConfig | None = None) -> None:
        self.config = config or QueueConfig()
        self.admitted = self.bytes = self.pixels = 0
        self.texts, self.images, self.jobs = Backlog(), Backlog(), Backlog()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @property
    def wait_seconds(self) -> float:
        """How long the model will need for everything that waits."""
        return self.texts.seconds + self.images.seconds + self.jobs.seconds

    @contextmanager
    def admit(self, timeout: float | None = None) -> Iterator[Place]:
        """Occupy a place in the queue for the length of a ``with`` block.

        Args:
            timeout: the seconds within which the request has to be answered; None is the setting.

        Raises:
            Overloaded: the queue is full, or too much waits for an answer in time.
        """
        if (error := self.refusal(timeout)) is not None:
            raise error
        timeout = self._bounded(timeout)
        self.admitted += 1
        place = Place(self, timeout)
        try:
            yield place
        finally:
            self.admitted -= 1
            place.leave()

    def refusal(self, timeout: float | None = None) -> Overloaded | None:
        """Why a request of this timeout would not be admitted now; None if it would be."""
        if self.admitted >= self.config.max_requests:
            return self.overloaded("requests")
        longest = MAX_WAIT_SHARE * self._bounded(timeout)
        if (wait := self.wait_seconds) > longest:
            return self.overloaded("deadline", wait - longest)
        return None

    def _bounded(self, timeout: float | None) -> float:
        return min(timeout or self.config.timeout_seconds, self.config.max_timeout_seconds)

    def overloaded(self, reason: str, seconds: float | None = None) -> Overloaded:
        """The error of a request that cannot be admitted before ``seconds``: by default, all that waits is done."""
        seconds = self.wait_seconds if seconds is None else seconds
        return Overloaded(reason, min(MAX_RETRY_AFTER, max(1, math.ceil(seconds))))

    async def run(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a job in the worker thread, first come, first served."""
        return await self.submit(job, *args, **kwargs)

    def submit(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """The future of a job in the worker thread; cancelled before its turn, it never runs."""
        self.jobs.units += 1
        future = self.start(lambda: self._timed(job, *args, **kwargs))
        future.add_done_callback(self._ended)
        return future

    def start(self, job: Callable[[], R]) -> asyncio.Future[R]:
        """As ``submit``, for one who counts what waits."""
        return asyncio.get_running_loop().run_in_executor(self._thread, job)

    def call(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As ``run``, for another thread than that of the event loop, which waits for the result.

        Raises:
            RuntimeError, CancelledError: the queue is closed.
        """
        return self._thread.submit(job, *args, **kwargs).result()

    def close(self) -> None:
        """Wait for the running job, drop the others and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _timed(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        start = time.perf_counter()
        try:
            return job(*args, **kwargs)
        finally:
            self.jobs.unit_seconds.add(time.perf_counter() - start)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self.jobs.units -= 1
