"""What the endpoints of the model have in common: body, place in the queue, version, record and price."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from clerestory.data.images import declared_size
from clerestory.models.protocols import CAPABILITY_TEXT, capabilities
from clerestory.stages.serve.inference_queue import Place
from clerestory.store.operations.prediction import RequestKind
from clerestory.web.access_control import charge
from clerestory.web.admission import admit, caller_of
from clerestory.web.input_values import json_object
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.request_body import spooled_body, timeout_of
from clerestory.web.request_trace import RequestTrace, request_trace
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state

CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(slots=True)
class ModelRequest:
    """An admitted request for the model.

    Attributes:
        request: the HTTP request.
        server: the server.
        loaded: the version that answers, bound at admission.
        place: its place in the queue, with its deadline.
        trace: its record.
    """

    request: Request
    server: ServerState
    loaded: LoadedModel
    place: Place
    trace: RequestTrace

    async def in_model_thread(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of a job in the model's thread; dropped before its turn once the deadline has passed."""
        return await self.place.wait(self.server.queue.submit(job, *args, **kwargs))

    def occupy(self, texts: Sequence[str], images: Sequence[bytes]) -> None:
        """Count texts and images against the bounds of the queue, charge the key, and record them.

        Raises:
            Overloaded: there is no room for them now.
            RateLimited, RequestRejected: the key may not spend what they cost.
        """
        characters = sum(map(len, texts))
        pixels = sum(width * height for width, height in map(declared_size, images))
        charge(self.request.scope, characters, pixels)
        self.place.add(characters + sum(map(len, images)), pixels)
        self.trace.images = tuple(images)
        self.trace.describe(
            inputs=len(texts) + len(images),
            images=len(images),
            characters=characters,
            pixels=pixels,
        )


@asynccontextmanager
async def model_request(
    request: Request, kind: RequestKind, first: str, parse: Callable[[dict[str, Any], LoadedModel], T]
) -> AsyncIterator[tuple[ModelRequest, T]]:
    """Admit a request once its body has arrived, bind the version that answers it, and parse it.

    Args:
        request: the HTTP request.
        kind: what it asks of the model.
        first: the most important parameter of its body.
        parse: from the JSON object of the body to the request; runs in a thread.

    Raises:
        RequestRejected, Overloaded, DeadlineExceeded: it is not answered.
    """
    server, trace = server_state(request), request_trace(request)
    check_content_type(request)
    async with spooled_body(request, server.config.body.max_bytes) as body:
        with server.queue.admit(timeout_of(request)) as place:
            async with server.body_budget.reserve(body.max_size):
                trace.bind(kind, server.follower.loaded)  # until the body says who asks, and which model
                value = await server.in_thread(lambda: json_object(body.content(), first))
                loaded = admit(server, trace, kind, *caller_of(value, request.headers))
                wanted = await server.in_thread(parse, value, loaded)
                yield ModelRequest(request, server, loaded, place, trace), wanted


def check_content_type(request: Request) -> None:
    """Reject a body that is not JSON in UTF-8.

    Raises:
        RequestRejected: 415.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type.strip().lower() != b"application/json":
        problem = "the body is not JSON"
        raise RequestRejected(problem, "send it with Content-Type: application/json", 415, "unsupported_media_type")
    charset = options.get(b"charset", b"utf-8").decode("latin-1").strip("\"' ").lower()
    if charset not in CHARSETS:
        problem = f"the charset {charset[:40]!r} is not supported"
        raise RequestRejected(problem, "send JSON in UTF-8", 415, "unsupported_media_type")


def ability(loaded: LoadedModel) -> str:
    """One sentence on what the loaded model can do."""
    known = [CAPABILITY_TEXT[name] for name in capabilities(loaded.model)]
    if loaded.can_describe and not loaded.writes_captions:
        known.append("tag photographs")
    return f"{loaded.ref} can {', '.join(known)}" if known else f"{loaded.ref} has none of the known capabilities"


def count_tokens(loaded: LoadedModel, texts: Sequence[str]) -> int:
    """The tokens of some texts; their words where the tokenizer is not known."""
    given = [text for text in texts if text]
    if loaded.tokens is None:
        return sum(len(text.split()) for text in given)
    return sum(loaded.tokens.count(given)) if given else 0
