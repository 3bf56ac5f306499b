"""One record of each request, from its first byte to the last of its response: ids, status, version, times.

The middleware makes the record; an endpoint that answers with the model adds what it knows::

    trace = request_trace(request)
    trace.bind(RequestKind.EMBEDDINGS, loaded)  # as soon as the version is chosen
    trace.describe(inputs=2, characters=40)
    trace.embeddings = rows

When the response is complete, or failed, the observers receive the ``Prediction``, and the access log its line.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypedDict, Unpack

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clerestory.core.codec import Tags
from clerestory.store.operations.prediction import Arm, Prediction, RequestKind, new_response_id
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.observers import Embeddings
from clerestory.web.request_ids import CLIENT_GONE, REQUEST_ID, TRACE, new_request_id
from clerestory.web.views import release_header


class PredictionFields(TypedDict, total=False):
    """The fields of a ``Prediction`` that an endpoint fills in; see there."""

    inputs: int
    images: int
    characters: int
    pixels: int
    subject: str
    key: str
    input_hash: str
    label: str
    confidence: float | None
    finite: bool
    facts: Tags


class RequestTrace:
    """The facts of one request.

    Attributes:
        request: its id, from ``X-Request-ID`` or made here.
        response: the id of the response; empty until a version is bound.
        at: when it arrived, in seconds since the epoch.
        begun: the same by ``time.perf_counter``.
        status: of the response; 0 until it begins.
        sent: bytes of the response's body.
        reason: why it was rejected, such as ``deadline``; empty if it was not.
        loaded: the model that answers; None until it is bound.
        arm: the side of a rollout.
        embeddings: of its inputs.
        images: as they were sent.
    """

    __slots__ = (
        "_fields",
        "arm",
        "at",
        "begun",
        "embeddings",
        "images",
        "kind",
        "loaded",
        "propensity",
        "reason",
        "request",
        "response",
        "rollout",
        "sent",
        "status",
    )

    def __init__(self, request: str) -> None:
        self.request = request
        self.response = ""
        self.at, self.begun = time.time(), time.perf_counter()
        self.status = self.sent = 0
        self.reason = ""
        self.loaded: LoadedModel | None = None
        self.kind = RequestKind.EMBEDDINGS
        self.arm, self.rollout, self.propensity = Arm.STABLE, "", 1.0
        self.embeddings: Embeddings | None = None
        self.images: Sequence[bytes] = ()
        self._fields: PredictionFields = {}

    def bind(
        self,
        kind: RequestKind,
        loaded: LoadedModel,
        arm: Arm = Arm.STABLE,
        rollout: str = "",
        propensity: float = 1.0,
    ) -> None:
        """Name the version that answers; the response has an id from here on."""
        self.kind, self.loaded, self.arm, self.rollout, self.propensity = kind, loaded, arm, rollout, propensity
        if not self.response:
            self.response = new_response_id()

    def describe(self, **fields: Unpack[PredictionFields]) -> None:
        """Add facts of the inputs and of the answer."""
        self._fields.update(fields)

    def prediction(self, latency_s: float) -> Prediction | None:
        """The record of the request; None if no version answered it."""
        loaded = self.loaded
        if loaded is None:
            return None
        return Prediction(
            response=self.response,
            request=self.request,
            at=self.at,
            kind=self.kind,
            name=loaded.release.name if loaded.release else loaded.ref,
            number=loaded.number,
            model=loaded.model.digest,
            arm=self.arm,
            rollout=self.rollout,
            propensity=self.propensity,
            status=self.status,
            latency_s=latency_s,
            **self._fields,
        )


def request_trace(request: Request) -> RequestTrace:
    """The record of a request."""
    return trace_of(request.scope)


def trace_of(scope: Scope) -> RequestTrace:
    """The record of the request of a scope."""
    trace = scope[TRACE]
    assert isinstance(trace, RequestTrace)
    return trace


class TraceMiddleware:
    """Pure ASGI middleware, the outermost one: makes the record, adds its ids to the response, and reports its end.

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
        trace = scope[TRACE] = RequestTrace(new_request_id(scope["headers"]))
        scope[REQUEST_ID] = trace.request
        ended = False

        async def traced_send(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", trace.request.encode())]
                if trace.loaded is not None and trace.status >= 400:  # an answer names its release itself
                    _name_release(message, trace.loaded)
                if trace.response:
                    message["headers"].append((b"clerestory-response", trace.response.encode()))
                if trace.rollout:
                    message["headers"].append((b"clerestory-arm", trace.arm.value.encode()))
                    message["headers"].append((b"clerestory-propensity", f"{trace.propensity:g}".encode()))
            else:
                trace.sent += len(message.get("body", b""))
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                ended = True
                _report(scope, trace)

        try:
            await self.app(scope, receive, traced_send)
        except BaseException as error:
            if not trace.status:
                trace.status = 500 if isinstance(error, Exception) else CLIENT_GONE
            raise
        finally:
            if not ended:
                _report(scope, trace)


def _name_release(message: Message, loaded: LoadedModel) -> None:
    """Add the release that an error belongs to, unless the response names it already."""
    name, text = next(iter(release_header(loaded.ref).items()))
    if all(given != name.encode() for given, _ in message["headers"]):
        message["headers"].append((name.encode(), text.encode()))


def _report(scope: Scope, trace: RequestTrace) -> None:
    """Tell whoever wants to know; the response is complete."""
    server = scope["app"].state.server
    seconds = time.perf_counter() - trace.begun
    route, method = server.route_names.get(scope.get("endpoint"), "other"), scope["method"]
    server.metrics.count(route, method, trace, seconds)
    if server.access_log.is_on:
        server.access_log.add(route, method, trace, seconds)
    if trace.loaded is not None and len(server.observers):
        prediction = trace.prediction(seconds)
        assert prediction is not None
        server.observers.observe(prediction, trace.embeddings, trace.images)
