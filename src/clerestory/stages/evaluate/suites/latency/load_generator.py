"""The open-loop load generator, and a target that calls a function of this process.

A closed loop sends the next request when the last one is answered. When the server stalls it stops sending, so the
stall affects a handful of requests instead of everyone who would have come: *coordinated omission* (G. Tene, "How NOT
to Measure Latency", 2013; Schroeder, Wierman & Harchol-Balter, "Open Versus Closed", NSDI 2006). Here requests arrive
by a schedule that does not depend on the answers, and every latency counts from when its request was *due*, whether or
not it could be sent then.

The clock is that of the running event loop, so the same code runs on simulated time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from clerestory.core.progress import QUIET, Progress
from clerestory.stages.evaluate.suites.latency.load import LoadConfig, LoadRequest, LoadResult, Status, arrivals

HEAD_START = 0.05
TIMER_TRIES = 40
TIMER_SECONDS = 0.005
MAX_REASON = 120


class RequestFailed(Exception):
    """A request has no usable answer; the message is the reason, such as ``HTTP 500``."""


class Target(Protocol):
    """Answers requests; entered before the first and left after the last.

    Attributes:
        cancellable: whether giving up a request ends it. If not, it stays in flight until it returns.
    """

    cancellable: bool

    async def send(self, index: int) -> None:
        """Send request number ``index`` and return when it is answered in full.

        Raises:
            RequestFailed: there is no usable answer.
        """

    async def __aenter__(self) -> Self:
        """Open what sending needs."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class ThreadTarget:
    """A function of this process, each call in a thread of its own.

    A thread cannot be stopped from outside: a call that is given up continues, and stays in flight until it returns.

    Args:
        call: takes the request's number; whatever it raises counts as an error.
        max_in_flight: the number of threads; that of the load, so that no call waits for a thread unnoticed.
    """

    cancellable = False

    def __init__(self, call: Callable[[int], object], max_in_flight: int) -> None:
        self._call = call
        self._max_in_flight = max_in_flight
        self._pool: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._max_in_flight, thread_name_prefix="load")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    async def send(self, index: int) -> None:
        """One call."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._call, index)


def run_load(target: Target, config: LoadConfig, progress: Progress = QUIET) -> LoadResult:
    """``offer_load`` in an event loop of its own."""
    return asyncio.run(offer_load(target, config, progress))


async def offer_load(target: Target, config: LoadConfig, progress: Progress = QUIET) -> LoadResult:
    """Offer a load and record what becomes of each request.

    Takes the warm-up and ``seconds``, and then until the last request is answered or given up (at most the timeout; a
    call in a thread is waited for).

    Args:
        target: answers the requests; opened and closed here.
        config: the load.
        progress: reports each request that ends.

    Raises:
        ConfigError: no request arrives in the measured time.
    """
    due = arrivals(config)
    loop = asyncio.get_running_loop()
    overshoots = await _timer_overshoots()
    async with target:
        with progress.task(f"Load of {config.arrival_rate_per_s:g} requests per second", len(due)) as bar:
            origin = loop.time() + HEAD_START
            run = _Run(target, config, origin)
            tasks = []
            for index, offset in enumerate(due.tolist()):
                await asyncio.sleep(max(origin + offset - loop.time(), 0.0))
                task = asyncio.create_task(run.request(index, origin + offset, loop.time()))
                task.add_done_callback(lambda _: bar.advance())
                tasks.append(task)
            sent = await asyncio.gather(*tasks)
            await run.settle()
    measured = tuple(one for one in sent if one.scheduled >= config.warm_up_seconds)
    return LoadResult(config, measured, len(sent) - len(measured), overshoots)


async def _timer_overshoots() -> tuple[float, ...]:
    """How many milliseconds longer than requested sleeps of 5 ms take, ascending: the accuracy of the timer."""
    loop = asyncio.get_running_loop()
    overshoots = []
    for _ in range(TIMER_TRIES):
        started = loop.time()
        await asyncio.sleep(TIMER_SECONDS)
        overshoots.append((loop.time() - started - TIMER_SECONDS) * 1e3)
    return tuple(sorted(overshoots))


class _End(NamedTuple):
    """How an attempt ended."""

    status: Status
    reason: str
    finished: float


class _Run:
    """One running load."""

    def __init__(self, target: Target, config: LoadConfig, origin: float) -> None:
        self._target = target
        self._config = config
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._given_up: set[asyncio.Task[_End]] = set()

    async def request(self, index: int, due: float, woken: float) -> LoadRequest:
        """Send request ``index`` as soon as there is a slot; ``due`` and ``woken`` are loop times."""
        deadline = due + self._config.timeout_seconds
        queued = self._slots.locked()
        record = partial(self._record, index=index, due=due, woken=woken, queued=queued)
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            reason = f"{self._config.max_in_flight} requests were in flight until its timeout"
            return record(sent=math.nan, end=_End(Status.UNSENT, reason, self._loop.time()))
        sent = self._loop.time()
        work = asyncio.create_task(self._attempt(index))
        work.add_done_callback(lambda _: self._slots.release())
        done, _ = await asyncio.wait({work}, timeout=max(deadline - sent, 0.0))
        if done and (end := work.result()).finished <= deadline:
            return record(sent=sent, end=end)
        if not done:
            self._given_up.add(work)
            if self._target.cancellable:
                work.cancel()
        reason = f"no answer within {self._config.timeout_seconds:g} s"
        return record(sent=sent, end=_End(Status.TIMEOUT, reason, self._loop.time()))

    async def settle(self) -> None:
        """Wait until the requests that were given up have ended."""
        await asyncio.gather(*self._given_up, return_exceptions=True)

    async def _attempt(self, index: int) -> _End:
        try:
            await self._target.send(index)
        except RequestFailed as error:
            return _End(Status.ERROR, str(error), self._loop.time())
        except Exception as error:
            # Whatever the target raises is a missing answer; it must not end the measurement.
            return _End(Status.ERROR, f"{type(error).__name__}: {error}".rstrip(": ")[:MAX_REASON], self._loop.time())
        return _End(Status.OK, "", self._loop.time())

    def _record(self, *, index: int, due: float, woken: float, sent: float, end: _End, queued: bool) -> LoadRequest:
        elapsed = (end.finished - due) * 1e3
        return LoadRequest(
            index=index,
            scheduled=due - self._origin,
            woken=woken - self._origin,
            sent=sent - self._origin,
            finished=end.finished - self._origin,
            # A request without an answer counts as the longest wait there is, never as a fast one.
            ms=elapsed if end.status == Status.OK else self._config.timeout_seconds * 1e3,
            status=end.status,
            reason=end.reason,
            queued=queued,
        )
