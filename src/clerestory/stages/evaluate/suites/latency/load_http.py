"""Load on an HTTP endpoint, with a client that is light enough not to distort the measurement.

A general client spends 2 ms of processor time on a request. When a server that stalled answers 150 requests at once,
the last of these answers would be read 0.3 s late and the lateness attributed to the server; here a request costs a
tenth of that. The client supports plain HTTP/1.1 only: one request at a time on a connection, TLS, responses with a
length, in chunks (RFC 9112, 7.1) or up to the end of the connection. It does not support proxies.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from clerestory.core.errors import ConfigError
from clerestory.stages.evaluate.suites.latency.load_generator import MAX_REASON, RequestFailed

HEAD_BYTES = 1 << 20
BROKEN = (OSError, EOFError, asyncio.LimitOverrunError, ValueError)


@dataclass(frozen=True, slots=True)
class HttpPayload:
    """One HTTP request.

    Attributes:
        body: sent as JSON; None for a request without a body.
        method: ``POST``, ``GET`` …
        headers: such as ``Authorization``.
        path: in place of the URL's path and query; empty for these.
    """

    body: Any = None
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""


class _Response(NamedTuple):
    status: int
    content: bytes
    reusable: bool


class HttpTarget:
    """An HTTP endpoint, such as ``/v1/embeddings`` of Clerestory or of any OpenAI-compatible server.

    Connections are reused, the latest first, as many as are needed at once. Redirects are not followed and nothing is
    retried: both would hide what a user experiences. The whole response is read before the clock stops.

    Args:
        url: where requests go, ``http://`` or ``https://``.
        payload: gives the request of an index.
        check: gives the reason why a response of status 2xx is unusable; empty if it is usable.

    Raises:
        ConfigError: not an HTTP URL.
    """

    cancellable = True

    def __init__(
        self, url: str, payload: Callable[[int], HttpPayload], check: Callable[[bytes], str] | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is not an HTTP URL", "give one such as http://127.0.0.1:8000/v1")
        self._host, self._netloc = parts.hostname, parts.netloc.rpartition("@")[2]
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._security = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._payload = payload
        self._check = check
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        """Connections are opened as they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        for _, writer in self._idle:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._idle), return_exceptions=True)
        self._idle = []

    async def send(self, index: int) -> None:
        """One request."""
        request = self._request(self._payload(index))
        try:
            response = await self._exchange(request)
        except BROKEN as error:
            raise RequestFailed(f"{type(error).__name__}: {error}".rstrip(": ")[:MAX_REASON]) from error
        if not 200 <= response.status < 300:
            raise RequestFailed(f"HTTP {response.status}")
        if self._check is not None and (why := self._check(response.content)):
            raise RequestFailed(why[:MAX_REASON])

    def _request(self, payload: HttpPayload) -> bytes:
        fields = {"Host": self._netloc, "Accept": "*/*", **payload.headers}
        body = b""
        if payload.body is not None:
            body = json.dumps(payload.body).encode()
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{payload.method} {payload.path or self._path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ConfigError("a header or path of the request contains a line break", "remove it")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body

    async def _exchange(self, request: bytes) -> _Response:
        reader, writer = await self._connection()
        reusable = False
        try:
            writer.write(request)
            await writer.drain()
            response = await _read(reader, head_only=request.startswith(b"HEAD "))
            reusable = response.reusable
            return response
        finally:
            # After an interruption, the rest of the response would be read as that of the next request.
            if reusable:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port, ssl=self._security, limit=HEAD_BYTES)


async def _read(reader: asyncio.StreamReader, head_only: bool) -> _Response:
    """One whole response.

    Raises:
        ValueError, EOFError, asyncio.LimitOverrunError: it is not HTTP, or it ends too early.
    """
    status, fields = 100, {}
    while status // 100 == 1:  # 100 Continue, 103 Early Hints: the response follows
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError("the response is not HTTP/1")
        status = int(rest[:3])
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    keep = fields.get("connection", "").lower() != "close" and version != "HTTP/1.0"
    if head_only or status in (204, 304):
        return _Response(status, b"", keep)
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return _Response(status, await _chunks(reader), keep)
    if "content-length" in fields:
        return _Response(status, await reader.readexactly(int(fields["content-length"])), keep)
    return _Response(status, await reader.read(), False)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    content = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        content += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
        pass
    return bytes(content)


def json_field(name: str) -> Callable[[bytes], str]:
    """A ``check`` that a response is a JSON object with the field ``name``, such as ``data`` of embeddings."""

    def check(content: bytes) -> str:
        try:
            response = json.loads(content)
        except ValueError:
            return "the response is not JSON"
        return "" if isinstance(response, dict) and name in response else f"the response has no {name!r}"

    return check
