"""What load is offered to: a function of this process, or an HTTP endpoint."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

MOST_REASON = 120


class Unanswered(Exception):
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


class Threads:
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


@dataclass(frozen=True, slots=True)
class Payload:
    """One HTTP request.

    Attributes:
        body: sent as JSON; None for a request without a body.
        method: ``POST``, ``GET`` …
        headers: such as ``Authorization``.
    """

    body: Any = None
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


class Http:
    """An HTTP endpoint, such as ``/v1/embeddings`` of Clerestory or of any OpenAI-compatible server.

    Connections are kept and reused; every request that may be under way has one. Redirects are not followed and
    nothing is retried: both would hide what a caller meets. The whole answer is read before the clock stops.

    Args:
        url: where requests go.
        payload: the request of a number.
        most_in_flight: how many connections; the load's own ``most_in_flight``.
        check: reads an answer of status 2xx and says why it is unusable; empty when it is fine.
    """

    cancellable = True

    def __init__(
        self,
        url: str,
        payload: Callable[[int], Payload],
        most_in_flight: int,
        check: Callable[[bytes], str] | None = None,
    ) -> None:
        self._url = url
        self._payload = payload
        self._most = most_in_flight
        self._check = check
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        limits = httpx.Limits(max_connections=self._most, max_keepalive_connections=self._most, keepalive_expiry=60)
        # The generator has a clock of its own; a second one inside the client would give up at another moment.
        self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=not _is_loopback(self._url))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def send(self, index: int) -> None:
        """One request."""
        if self._client is None:
            raise RuntimeError("the target is used outside its async with block")
        payload = self._payload(index)
        try:
            answer = await self._client.request(
                payload.method, self._url, json=payload.body, headers=dict(payload.headers)
            )
        except httpx.HTTPError as error:
            raise Unanswered(f"{type(error).__name__}: {error}".rstrip(": ")[:MOST_REASON]) from error
        if not answer.is_success:
            raise Unanswered(f"HTTP {answer.status_code}")
        if self._check is not None and (why := self._check(answer.content)):
            raise Unanswered(why[:MOST_REASON])


def json_field(name: str) -> Callable[[bytes], str]:
    """A ``check`` that an answer is a JSON object with the field ``name``, such as ``data`` of an embeddings answer."""

    def check(content: bytes) -> str:
        try:
            answer = json.loads(content)
        except ValueError:
            return "the answer is not JSON"
        return "" if isinstance(answer, dict) and name in answer else f"the answer has no {name!r}"

    return check


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
