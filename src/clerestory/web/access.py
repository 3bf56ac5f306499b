"""Demands an API key or a session where one is needed, charges the key, and tells what it may still spend."""

from __future__ import annotations

import math
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clerestory.stages.serve.rate_limit import SpendingDecision
from clerestory.web.access_control import ENTRY, FREE, SIGN_IN, AccessControl, AdmittedKey
from clerestory.web.request_trace import trace_of
from clerestory.web.security import SAFE_METHODS, RequestRejected
from clerestory.web.views import on_error, wants_json


class AccessMiddleware:
    """Pure ASGI middleware: demands a key where one is needed, charges it, and tells what it may still spend.

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
        access: AccessControl = scope["app"].state.server.access
        admitted: AdmittedKey | None = None

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start" and admitted and admitted.spending:
                MutableHeaders(scope=message).update(_spending_headers(admitted.spending))
            await send(message)

        try:
            admitted = access.admit(scope)
            scope[ENTRY] = admitted
            if admitted:
                trace_of(scope).describe(key=admitted.key.id)
            path = scope["path"]
            if admitted and not path.startswith(FREE):
                access.spend(admitted, access.config.price_per_request)
        except RequestRejected as error:
            request = Request(scope, receive)
            if error.status == 401 and scope["method"] in SAFE_METHODS and not wants_json(request):
                where = scope["path"] + (f"?{request.url.query}" if request.url.query else "")
                response = RedirectResponse(f"{SIGN_IN}?{urlencode({'next': where})}", status_code=303)
                await response(scope, receive, send)
                return
            await (await on_error(request, error))(scope, receive, counting_send)
            return
        await self.app(scope, receive, counting_send)


def _spending_headers(decision: SpendingDecision) -> dict[str, str]:
    if math.isinf(decision.limit):
        return {}
    numbers = (
        ("limit", decision.limit),
        ("remaining", math.floor(decision.remaining)),
        ("reset", math.ceil(decision.reset)),
    )
    return {f"x-ratelimit-{name}": f"{value:.0f}" for name, value in numbers}
