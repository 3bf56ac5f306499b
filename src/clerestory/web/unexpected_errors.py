"""A bug is answered like every other error: status 500 in the form of the API, with the headers of the request."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clerestory.web.views import on_unexpected_error

LOG = logging.getLogger("clerestory.web")


class UnexpectedErrorMiddleware:
    """Pure ASGI middleware inside of ``TraceMiddleware``, which adds the ids, the release and the arm.

    It is also inside of ``SecurityMiddleware``, which closes the connection if the body has not arrived completely.

    Starlette's own handler is outside of every middleware, so its response has none of these headers, and it raises the
    error again, so that the HTTP server resets the connection: a client that keeps it alive loses its next request. If
    the response has begun, that is right, for nothing else says that it is incomplete.

    Args:
        app: the wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        begun = scope["type"] != "http"

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, send if begun else watched_send)
        except Exception as error:
            if begun:
                raise
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            response = await on_unexpected_error(Request(scope), error)
            if scope["app"].state.server.follower.draining:
                response.headers["connection"] = "close"
            await response(scope, receive, send)
