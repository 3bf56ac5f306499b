"""The open-loop generator.

A closed loop sends the next request when the last one is answered. When the server stalls it stops asking, so the
stall is seen by a handful of requests instead of by everyone who would have come: *coordinated omission* (G. Tene,
"How NOT to Measure Latency", 2013; Schroeder, Wierman & Harchol-Balter, "Open Versus Closed", NSDI 2006). Here
requests arrive by a schedule that knows nothing of the answers, and every latency counts from when its request was
*due*, whether or not it could be sent then.

The clock is that of the running event loop, so the same code runs on simulated time.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import NamedTuple

from clerestory.core.progress import QUIET, Progress
from clerestory.stages.evaluate.suites.latency.load.config import LoadConfig, arrivals
from clerestory.stages.evaluate.suites.latency.load.result import ERROR, OK, TIMEOUT, UNSENT, LoadRequest, LoadResult
from clerestory.stages.evaluate.suites.latency.load.targets import MOST_REASON, RequestFailed, Target

HEAD_START = 0.05
TIMER_TRIES = 40
TIMER_SECONDS = 0.005


def run_load(target: Target, config: LoadConfig, progress: Progress = QUIET) -> LoadResult:
    """``offer_load`` in an event loop of its own, for callers that have none."""
    return asyncio.run(offer_load(target, config, progress))


async def offer_load(target: Target, config: LoadConfig, progress: Progress = QUIET) -> LoadResult:
    """Offer a load and note what became of each request.

    Takes ``warm_up + seconds``, and then until the last request is answered or given up (at most ``timeout``; a
    call in a thread is waited for).

    Args:
        target: what answers; opened and closed here.
        config: the load.
        progress: told as requests end.

    Raises:
        ConfigError: no request would arrive in the time that is measured.
    """
    due = arrivals(config)
    loop = asyncio.get_running_loop()
    overshoots = await _timer_overshoots()
    async with target:
        with progress.task(f"Load of {config.rate:g} requests per second", len(due)) as bar:
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
    measured = tuple(one for one in sent if one.scheduled >= config.warm_up)
    return LoadResult(config, measured, len(sent) - len(measured), overshoots)


async def _timer_overshoots() -> tuple[float, ...]:
    """By how many milliseconds sleeps of 5 ms last longer than asked, ascending: what this machine's timer is worth."""
    loop = asyncio.get_running_loop()
    overshoots = []
    for _ in range(TIMER_TRIES):
        begun = loop.time()
        await asyncio.sleep(TIMER_SECONDS)
        overshoots.append((loop.time() - begun - TIMER_SECONDS) * 1e3)
    return tuple(sorted(overshoots))


class _End(NamedTuple):
    """How an attempt ended."""

    status: str
    reason: str
    finished: float


class _Run:
    """One load under way."""

    def __init__(self, target: Target, config: LoadConfig, origin: float) -> None:
        self._target = target
        self._config = config
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(config.most_in_flight)
        self._given_up: set[asyncio.Task[_End]] = set()

    async def request(self, index: int, due: float, woken: float) -> LoadRequest:
        """Send request ``index`` as soon as there is a slot; ``due`` and ``woken`` in time of the event loop."""
        deadline = due + self._config.timeout
        queued = self._slots.locked()
        note = partial(self._note, index=index, due=due, woken=woken, queued=queued)
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            reason = f"{self._config.most_in_flight} requests were in flight until its timeout"
            return note(sent=math.nan, end=_End(UNSENT, reason, self._loop.time()))
        sent = self._loop.time()
        work = asyncio.create_task(self._attempt(index))
        work.add_done_callback(lambda _: self._slots.release())
        done, _ = await asyncio.wait({work}, timeout=max(deadline - sent, 0.0))
        if done and (end := work.result()).finished <= deadline:
            return note(sent=sent, end=end)
        if not done:
            self._given_up.add(work)
            if self._target.cancellable:
                work.cancel()
        reason = f"no answer within {self._config.timeout:g} s"
        return note(sent=sent, end=_End(TIMEOUT, reason, self._loop.time()))

    async def settle(self) -> None:
        """Wait until what was given up has really ended."""
        await asyncio.gather(*self._given_up, return_exceptions=True)

    async def _attempt(self, index: int) -> _End:
        try:
            await self._target.send(index)
        except RequestFailed as error:
            return _End(ERROR, str(error), self._loop.time())
        except Exception as error:
            # Whatever the callable raises is an answer that never came; it must not end the measurement.
            return _End(ERROR, f"{type(error).__name__}: {error}".rstrip(": ")[:MOST_REASON], self._loop.time())
        return _End(OK, "", self._loop.time())

    def _note(self, *, index: int, due: float, woken: float, sent: float, end: _End, queued: bool) -> LoadRequest:
        elapsed = (end.finished - due) * 1e3
        return LoadRequest(
            index=index,
            scheduled=due - self._origin,
            woken=woken - self._origin,
            sent=sent - self._origin,
            finished=end.finished - self._origin,
            # A request without an answer counts as the longest wait there is, never as a fast answer.
            ms=elapsed if end.status == OK else self._config.timeout * 1e3,
            status=end.status,
            reason=end.reason,
            queued=queued,
        )
