"""Host and origin checks and security headers of every request and response, and the errors of the server.

Two attacks reach even a server that listens on the loopback address only: a page of another site that posts to it
(CSRF), and a foreign host name that resolves to 127.0.0.1 (DNS rebinding). The origin check stops the first, the host
check the second. Other host names and origins are accepted if the settings name them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clerestory.core.errors import InputError
from clerestory.stages.serve.access_config import AccessConfig
from clerestory.web.proxies import apply_forwarded
from clerestory.web.request_ids import request_id

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
API_PREFIXES = ("/v1/", "/healthz", "/readyz", "/openapi.json", "/metrics")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

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


_ADDED = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_ADDED.append((b"cache-control", b"no-store"))
_CLOSE = (b"connection", b"close")


class RequestRejected(InputError):
    """The server rejects the request; carries the HTTP status and the API's error type.

    Args:
        message: the problem, one sentence without a trailing full stop.
        fix: the remedy.
        status: the HTTP status (4xx or 503).
        kind: the ``type`` of the JSON error.
        code: its ``code``, more specific than the type; the type where there is nothing to add.
        param: the rejected parameter, such as ``input[3]``; empty if there is none.

    Attributes:
        headers: of the response, besides the usual ones.
    """

    def __init__(
        self,
        message: str,
        fix: str = "",
        status: int = 400,
        kind: str = "invalid_request",
        code: str = "",
        param: str = "",
    ) -> None:
        super().__init__(message, fix)
        self.status = status
        self.kind = kind
        self.code = code or kind
        self.param = param
        self.headers: dict[str, str] = {}


def is_api(path: str) -> bool:
    """Whether a path belongs to the JSON API."""
    return path.startswith(API_PREFIXES)


def error_json(
    kind: str, message: str, fix: str, code: str = "", param: str = "", request: str = ""
) -> dict[str, dict[str, str | None]]:
    """The body of an API error; OpenAI's clients show only the message, so the remedy is a part of it."""
    whole = f"{message} — {fix}" if fix else message
    error = {"message": whole, "type": kind, "code": code or kind, "param": param or None, "fix": fix}
    return {"error": {**error, "request_id": request}}


class SecurityMiddleware:
    """Pure ASGI middleware: believes trusted proxies, rejects foreign hosts and origins, adds the security headers.

    Args:
        app: the wrapped application.
        config: the host names, origins and proxies that are accepted besides this computer's own.
        accepts_host: whether a further host name is accepted.
    """

    def __init__(
        self, app: ASGIApp, config: AccessConfig | None = None, accepts_host: Callable[[str], bool] | None = None
    ) -> None:
        config = config or AccessConfig()
        self.app = app
        self._origins = frozenset(origin.lower() for origin in config.origins)
        self._proxies = config.networks
        self._accepts_host = accepts_host or (lambda name: False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        apply_forwarded(scope, self._proxies)
        body_complete = scope["method"] in SAFE_METHODS

        async def tracked_receive() -> Message:
            nonlocal body_complete
            message = await receive()
            last = message["type"] == "http.request" and not message.get("more_body", False)
            body_complete = body_complete or last
            return message

        async def secured_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                names = {name.lower() for name, _ in given}
                if not body_complete:
                    # The response precedes the end of the body: close, or the server would read and discard the rest.
                    given = [*((name, value) for name, value in given if name.lower() != b"connection"), _CLOSE]
                message["headers"] = [*given, *(each for each in _ADDED if each[0] not in names)]
            await send(message)

        rejection = self._check(scope)
        if rejection is None:
            await self.app(scope, tracked_receive, secured_send)
        else:
            await send_rejection(scope, secured_send, rejection, request_id(scope))

    def _check(self, scope: Scope) -> RequestRejected | None:
        host, site, origin = "", None, None
        for name, value in reversed(scope["headers"]):  # of several, the first one counts
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"sec-fetch-site":
                site = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        name_of_host = host_name(host)
        if name_of_host not in LOOPBACK_NAMES and not (name_of_host and self._accepts_host(name_of_host)):
            return RequestRejected(
                f"the host name {host[:80]!r} is not accepted",
                "open http://localhost or http://127.0.0.1 with the server's port, or name the host in access.hosts",
                status=421,
                kind="wrong_host",
            )
        is_own = (origin or "").lower() in self._origins or _same_origin(scope, host, site, origin)
        if scope["method"] not in SAFE_METHODS and not is_own:
            return RequestRejected(
                "this request came from another site",
                "send it from a page of this server",
                status=403,
                kind="cross_origin",
            )
        return None


@lru_cache(maxsize=256)
def host_name(host: str) -> str:
    """The host name in a ``Host`` header, ``::1`` for ``[::1]:8000``; empty if the header is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_browser_request(headers: Headers) -> bool:
    """Whether a request says which page it came from, as those of browsers do; the middleware has checked it."""
    return "origin" in headers or "sec-fetch-site" in headers


def _same_origin(scope: Scope, host: str, site: str | None, origin: str | None) -> bool:
    if site is not None:
        return site == "same-origin" or (site == "none" and origin is None)
    if origin is not None:
        return origin.lower() == f"{scope['scheme']}://{host}".lower()
    # Neither header: the sender is not a browser. Programs may use the API; forms come from browsers only.
    return is_api(scope["path"])


async def send_rejection(scope: Scope, send: Send, rejection: RequestRejected, request: str = "") -> None:
    """Respond with an error outside of the application; ``request`` is the id of the request."""
    if is_api(scope["path"]):
        content_type = b"application/json"
        body = json.dumps(
            error_json(rejection.kind, rejection.message, rejection.fix, rejection.code, request=request)
        ).encode()
    else:
        content_type, body = b"text/plain; charset=utf-8", f"{rejection}\n".encode()
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in rejection.headers.items()]
    await send({"type": "http.response.start", "status": rejection.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
