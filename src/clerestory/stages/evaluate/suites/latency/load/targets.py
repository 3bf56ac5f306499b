"""What load is offered to; here a function of this process (an HTTP endpoint is in ``http``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

MOST_REASON = 120


class RequestFailed(Exception):
    """A request that got no usable answer; the text is the reason, such as ``HTTP 500``."""


class Target(Protocol):
    """Something that answers requests; entered before the first and left after the last.

    Attributes:
        cancellable: whether giving up on a request ends it. Where not, it keeps its place among those in flight.
    """

    cancellable: bool

    async def send(self, index: int) -> None:
        """Send request number ``index`` and return once it is answered in full.

        Raises:
            Unanswered: there was no usable answer.
        """

    async def __aenter__(self) -> Self:
        """Open what sending needs."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class ThreadTarget:
    """A function of this process, each call in a thread of its own.

    A thread cannot be stopped from outside: a call that is given up runs on, and holds its place until it returns.

    Args:
        call: takes the request's number; whatever it raises counts as an error.
        most_in_flight: how many threads; the load's own ``most_in_flight``, so that none waits for a thread unseen.
    """

    cancellable = False

    def __init__(self, call: Callable[[int], object], most_in_flight: int) -> None:
        self._call = call
        self._most = most_in_flight
        self._pool: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="load")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    async def send(self, index: int) -> None:
        """One call."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._call, index)
