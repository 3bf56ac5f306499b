"""The bodies of requests: how long a client may take, how large they may be, and how they are decompressed."""

from __future__ import annotations

import asyncio
import math
import tempfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from clerestory.web.security import RequestRejected
from clerestory.web.serve_config import BodyConfig

MIN_BYTES_PER_SECOND = 100_000
SMALL_BODY_BYTES = 128_000
ARRIVED = "clerestory.arrived"  # in the scope: the size of a body that has arrived; absent while it has not
ENCODINGS = ("identity", "gzip", "deflate")
MAX_COMPRESSION = 1_032  # of deflate: no body grows by more


async def body_chunks(request: Request, is_upload: bool = False) -> AsyncIterator[bytes]:
    """The chunks of the body as they arrive; only the time spent waiting for the client counts.

    Raises:
        RequestRejected: 408 when no chunk arrives for ``stall_seconds``, when the client is slower than
            ``MIN_BYTES_PER_SECOND`` for longer than that, or when the whole body takes more than ``total_seconds``
            or ``upload_seconds``; of the settings.
    """
    limits = _limits(request)
    stall_seconds = limits.stall_seconds
    total_seconds = limits.upload_seconds if is_upload else limits.total_seconds
    stream, clock = aiter(request.stream()), asyncio.get_running_loop().time
    waited, received = 0.0, 0
    while True:
        start = clock()
        most = min(stall_seconds + received / MIN_BYTES_PER_SECOND, total_seconds)
        try:
            async with asyncio.timeout(min(stall_seconds, most - waited)):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RequestRejected(
                "the upload is too slow",
                f"send it within {stall_seconds:g} s, or at {MIN_BYTES_PER_SECOND // 1000} kB per second or more, "
                f"and within {total_seconds:g} s in all",
                status=408,
                kind="timeout",
            ) from None
        except ClientDisconnect:
            raise RequestRejected("the upload was interrupted", "send it again") from None
        waited += clock() - start
        received += len(chunk)
        yield chunk


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; its bytes are counted as they arrive, the declared length is ignored.

    Raises:
        RequestRejected: 413 beyond ``limit`` bytes; as ``body_chunks``.
    """
    body = bytearray()
    async for chunk in body_chunks(request):
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


class SpooledBody:
    """A body that has arrived: a small one in memory, a larger one in a temporary file until it is its turn.

    Args:
        file: the bytes as they were sent.
        size: their number.
        encoding: the ``Content-Encoding``.
        limit: the largest number of bytes after decompression.
    """

    def __init__(self, file: IO[bytes], size: int, encoding: str, limit: int) -> None:
        self.limit = limit
        self._file, self._size, self._encoding = file, size, encoding

    @property
    def max_size(self) -> int:
        """The largest number of bytes that ``content`` may return."""
        return self._size if self._encoding == "identity" else min(self.limit, self._size * MAX_COMPRESSION)

    def content(self) -> bytes:
        """The bytes, decompressed; not for the event loop.

        Raises:
            RequestRejected: 400 if the compressed body is damaged, 413 if there are more than ``limit`` bytes.
        """
        self._file.seek(0)
        raw = self._file.read()
        if self._encoding == "identity":
            return raw
        decompressor = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
        damaged = RequestRejected(f"the body is not valid {self._encoding}", "compress it again, or send it plain")
        try:
            content = decompressor.decompress(raw, self.limit + 1)
        except zlib.error as error:
            raise damaged from error
        if len(content) > self.limit:
            raise too_large(self.limit)
        if not decompressor.eof or decompressor.unused_data:
            raise damaged
        return content


@asynccontextmanager
async def spooled_body(request: Request, limit: int) -> AsyncIterator[SpooledBody]:
    """The whole body, once it has arrived.

    Raises:
        RequestRejected: 413 beyond ``limit`` bytes, 415 for an unknown ``Content-Encoding``, 503 if the temporary
            folder is full; as ``body_chunks``.
    """
    encoding = (request.headers.get("content-encoding", "").strip().lower() or "identity").removeprefix("x-")
    if encoding not in ENCODINGS:
        raise RequestRejected(
            f"the Content-Encoding {encoding[:40]!r} is not supported",
            f"use {', '.join(ENCODINGS)}",
            status=415,
            kind="unsupported_media_type",
        )
    size = 0
    with tempfile.SpooledTemporaryFile(max_size=SMALL_BODY_BYTES) as file:
        async for chunk in body_chunks(request):
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            try:
                if size > SMALL_BODY_BYTES:
                    await asyncio.to_thread(file.write, chunk)
                else:
                    file.write(chunk)
            except OSError as error:
                raise RequestRejected(
                    "the server has no space left for a large request", "send a smaller one", 503, "no_space"
                ) from error
        yield SpooledBody(file, size, encoding, limit)


def _limits(request: Request) -> BodyConfig:
    app = request.scope.get("app")
    return app.state.server.config.body if app is not None else BodyConfig()


class ByteBudget:
    """Bounds the bytes of large bodies in memory at the same time; the others wait, in order of arrival.

    Args:
        total: the bytes to share; a small body (``SMALL_BODY_BYTES``) takes none.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait until ``size`` bytes are free, and take them for the length of the block."""
        if size <= SMALL_BODY_BYTES:
            yield
            return
        size = min(size, self.total)
        async with self._turn:
            while self._used + size > self.total:
                self._freed.clear()
                await self._freed.wait()
            self._used += size
        try:
            yield
        finally:
            self._used -= size
            self._freed.set()


async def arrived_body(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The body, if all of it has arrived with the headers and it has at most ``limit`` bytes; else nothing is read."""
    if scope.get(ARRIVED, limit + 1) > limit:
        return None
    message = await receive()
    return message.get("body", b"") if message["type"] == "http.request" else None


def replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that begins with a body that was read already."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return first.pop() if first else await receive()

    return replaying


def timeout_of(request: Request) -> float | None:
    """The seconds of the header ``X-Request-Timeout``; None without one.

    Raises:
        RequestRejected: 400 if it is not a positive number.
    """
    value = request.headers.get("x-request-timeout")
    return None if value is None else parse_timeout(value)


def parse_timeout(value: str) -> float:
    """The seconds of a header ``X-Request-Timeout``; as ``timeout_of``."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:  # neither is NaN
        raise RequestRejected(
            f"X-Request-Timeout is {value[:40]!r}", "give a number of seconds above 0", code="invalid_value"
        )
    return seconds


def too_large(limit: int) -> RequestRejected:
    """The error for a body of more than ``limit`` bytes."""
    return RequestRejected(
        f"the request is larger than {limit / 1e6:.0f} MB",
        "send fewer or smaller texts and pictures",
        status=413,
        kind="too_large",
    )
