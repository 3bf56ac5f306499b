"""Responses while the server shuts down: each ends its connection, and none of a request under way is a 500."""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clerestory.web.request_ids import request_id
from clerestory.web.security import RequestRejected, send_rejection


class DrainMiddleware:
    """Pure ASGI middleware: adds ``Connection: close``, and answers 503 to a request that the limit of time cuts off.

    Args:
        app: the wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        follower = scope["app"].state.server.follower
        begun = False

        async def closing_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if follower.draining:  # or the client would send its next request into a closed connection
                    MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        try:
            await self.app(scope, receive, closing_send)
        except asyncio.CancelledError:
            if begun or not follower.draining:
                raise
            rejection = RequestRejected("the server is shutting down", "send it again", status=503, kind="not_ready")
            await send_rejection(scope, closing_send, rejection, request_id(scope))
