"""What every request and answer passes: host and origin checks, body limits, security headers, the drain.

The pages have no log-in, since they only answer on the loopback address. Two things can still reach such a server
from outside: a foreign page that posts to it, and a foreign name that resolves to 127.0.0.1 (DNS rebinding). The
checks of origin and host close both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clerestory.core.errors import InputError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PATIENCE_SECONDS = 30.0
API_PREFIXES = ("/v1/", "/healthz", "/readyz")

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Turned(InputError):
    """A request that is not answered, with the HTTP status that says so."""

    def __init__(self, message: str, fix: str = "", status: int = 400, kind: str = "invalid_request") -> None:
        super().__init__(message, fix)
        self.status = status
        self.kind = kind


class Busy(Turned):
    """More work waits than the server takes on; ``after`` says in how many seconds to come back."""

    def __init__(self, after: int) -> None:
        super().__init__(
            "the server has as much work as it can take", f"try again in {after} s", status=429, kind="busy"
        )
        self.after = after


def is_api(path: str) -> bool:
    """Whether a path is answered with JSON."""
    return path.startswith(API_PREFIXES)


def error_json(kind: str, message: str, fix: str) -> dict[str, dict[str, str]]:
    """The one shape of an error of the API."""
    return {"error": {"type": kind, "message": message, "fix": fix}}


class Guard:
    """Pure ASGI middleware around the whole application.

    Args:
        app: what it guards.
        hosts: names the server may be called by, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = LOOPBACK_NAMES) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse foreign hosts and origins; add the security headers to every answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        whole = scope["method"] in {"GET", "HEAD", "OPTIONS"}

        async def counted() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or (message["type"] == "http.request" and not message.get("more_body", False))
            return message

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if not whole:
                    # Answered before everything was read: hang up, or the rest would be read and thrown away.
                    headers["connection"] = "close"
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, counted, secured)
        else:
            await _refuse(scope, secured, refusal)

    def _refusal(self, scope: Scope) -> Turned | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host_name(host) not in self.hosts:
            return Turned(
                f"this server does not answer to the name {host[:80]!r}",
                "open it as http://localhost or http://127.0.0.1 with its port",
                status=421,
                kind="wrong_host",
            )
        if scope["method"] not in {"GET", "HEAD", "OPTIONS"} and not _same_origin(scope, headers, host):
            return Turned(
                "this request came from another site",
                "open the page on this server and send it from there",
                status=403,
                kind="cross_origin",
            )
        return None


def host_name(host: str) -> str:
    """The name in a ``Host`` header: ``[::1]:8000`` gives ``::1``; empty when it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _same_origin(scope: Scope, headers: Headers, host: str) -> bool:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin" or (site == "none" and origin is None)
    if origin is not None:
        return origin.lower() == f"{scope['scheme']}://{host}".lower()
    # Neither header: no browser sent it. Programs may use the API; a form only ever comes from a browser.
    return is_api(scope["path"])


async def _refuse(scope: Scope, send: Send, refusal: Turned) -> None:
    if is_api(scope["path"]):
        kind, body = b"application/json", json.dumps(error_json(refusal.kind, refusal.message, refusal.fix)).encode()
    else:
        kind, body = b"text/plain; charset=utf-8", f"{refusal}\n".encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes in.

    Raises:
        Turned: 408 when nothing comes for too long.
    """
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Turned("the request stopped coming", "send it again", status=408, kind="timeout") from None
        except ClientDisconnect:
            raise Turned("the request was cut short", "send it again") from None
        yield piece


async def read_body(request: Request, most: int) -> bytes:
    """The body, counted while it streams in; the declared length is never trusted.

    Raises:
        Turned: 413 once more than ``most`` bytes have come.
    """
    whole = bytearray()
    async for piece in pieces(request):
        whole += piece
        if len(whole) > most:
            raise too_large(most)
    return bytes(whole)


def too_large(most: int) -> Turned:
    """The answer to a body that is too long."""
    return Turned(
        f"the request is larger than {most / 1e6:.0f} MB",
        "send fewer or smaller pictures",
        status=413,
        kind="too_large",
    )
