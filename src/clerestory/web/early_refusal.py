"""The refusal of a request right after its head: while the model is overloaded, nothing more may be spent on it.

The whole way through the application takes ten times as long, and clients that try again at once would leave no time
for the requests that were admitted. The response has the same headers and body as that of the application, and is
counted and logged alike. It comes before the check of API keys, and says only that the server is busy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from clerestory.stages.serve.inference_queue import Overloaded
from clerestory.web.request_body import parse_timeout
from clerestory.web.request_ids import new_request_id
from clerestory.web.request_trace import RequestTrace
from clerestory.web.security import LOOPBACK_NAMES, SECURITY_HEADERS, RequestRejected, error_json, host_name
from clerestory.web.state import ServerState

ROUTES = {each.encode(): each for each in ("/v1/embeddings", "/v1/chat/completions", "/v1/classify", "/v1/search")}
SMALL_BODY = 65_536  # bytes that are read and dropped so that the connection can be used again
_ID = "0" * 28  # stands for the id of the request


class EarlyRefusal(NamedTuple):
    """A response, and what becomes of its connection.

    Attributes:
        content: the response as it is sent.
        keeps: whether the connection is kept.
        waits: whether the body is still sent by the client; it is dropped.
        retry_after: after how many seconds the client may come back.
    """

    content: bytes
    keeps: bool
    waits: bool
    retry_after: int


def early_refusal(
    server: ServerState, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]], keep_alive: bool
) -> EarlyRefusal | None:
    """The refusal of a request for the model that would not be admitted; None: the application answers it.

    Args:
        server: that received it.
        method: of the request.
        url: as it was sent.
        headers: with names in lower case.
        keep_alive: whether the client would use the connection again.
    """
    route = ROUTES.get(url)
    if route is None or method != b"POST" or server.follower.draining or not server.queue.admitted:
        return None
    timeout, size, expects, host = None, -1, False, b""
    for name, value in headers:
        if name == b"host":
            host = host or value
        elif name == b"content-length":
            size = int(value)  # the parser has checked it
        elif name == b"x-request-timeout":
            try:
                timeout = parse_timeout(value.decode("latin-1"))
            except RequestRejected:
                return None
        elif name == b"expect":
            expects = True
        elif name in (b"origin", b"sec-fetch-site"):  # of a browser, which is checked
            return None
    error = server.queue.refusal(timeout)
    if error is None or not _is_own(server, host):
        return None
    trace = RequestTrace(new_request_id(headers))
    keeps = keep_alive and 0 <= size <= SMALL_BODY and not expects
    content = _response(error, trace, keeps)
    trace.status, trace.reason = 429, error.reason
    seconds = time.perf_counter() - trace.begun
    server.metrics.count(route, "POST", trace, seconds)
    if server.access_log.is_on:
        server.access_log.add(route, "POST", trace, seconds)
    return EarlyRefusal(content, keeps, not expects, error.retry_after)


def _is_own(server: ServerState, host: bytes) -> bool:
    name = host_name(host.decode("latin-1"))
    return name in LOOPBACK_NAMES or bool(name and server.access.accepts_host(name))


def _response(error: Overloaded, trace: RequestTrace, keeps: bool) -> bytes:
    head, before, after = _parts(error.retry_after, keeps)
    request = trace.request.encode()
    trace.sent = len(before) + len(request) + len(after)
    return b"%b%d\r\nx-request-id: %b\r\n\r\n%b%b%b" % (head, trace.sent, request, before, request, after)


@lru_cache(maxsize=256)
def _parts(retry_after: int, keeps: bool) -> tuple[bytes, bytes, bytes]:
    """The head up to the length of the body, and the body before and after the id of the request."""
    error = Overloaded("deadline", retry_after)
    value = error_json("busy", error.message, error.fix, request=_ID)
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    before, after = body.encode().split(_ID.encode())
    headers = {"content-type": "application/json", **SECURITY_HEADERS, "cache-control": "no-store"}
    headers["retry-after"] = str(retry_after)
    if not keeps:
        headers["connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 429 Too Many Requests\r\n{lines}content-length: ".encode(), before, after
