"""``POST /v1/embeddings``, in OpenAI's format.

A short request of a few texts is read, counted and written on the event loop, which takes less time than a change of
threads; it leaves the loop for the model only. All other requests are worked on in slices in the thread of requests, so
that the loop stays free.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response
from starlette.types import Receive, Scope, Send

from clerestory.core.errors import CapabilityError
from clerestory.data.images import declared_size
from clerestory.stages.serve.inference_queue import Place
from clerestory.store.operations.prediction import RequestKind
from clerestory.web.access_control import charge
from clerestory.web.admission import admit, caller_of, offer_shadow
from clerestory.web.answering import check_content_type
from clerestory.web.embedding_request import (
    EmbeddingRequest,
    embedder_of,
    embedding_request,
    is_loaded,
)
from clerestory.web.input_values import json_object
from clerestory.web.json_body import parse_json
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.places import occupied
from clerestory.web.request_body import arrived_body, parse_timeout, replayed, spooled_body, timeout_of
from clerestory.web.request_trace import RequestTrace, request_trace, trace_of
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import release_header

SLICE_CHARACTERS = 100_000  # of texts whose tokens are counted before other requests have their turn
MAX_WARNINGS = 16  # texts whose language is judged
MAX_JUDGED = 300  # characters of each
SLICE_NUMBERS = 50_000  # of embeddings that are written before other requests have their turn
SHORT_BODY = 4_096  # bytes of a request that is worked on on the event loop: up to a millisecond
FEW_INPUTS = 8
JSON_TYPES = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
OPTIONS = orjson.OPT_SERIALIZE_NUMPY

Rows = NDArray[np.float32]


class EmbeddingsEndpoint:
    """An ASGI application, since Starlette's wrapper of functions takes as long as a short request."""

    def __init__(self) -> None:
        self._other = request_response(embeddings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await arrived_body(scope, receive, SHORT_BODY)
        if body is None:
            await self._other(scope, receive, send)
            return
        server: ServerState = scope["app"].state.server
        head = _read_head(scope["headers"])
        value = parse_json(body) if head.is_plain and b"data:" not in body.lower() else None
        if not isinstance(value, dict) or not _is_short(value, server.follower.loaded):
            await self._other(scope, replayed(body, receive), send)
            return
        trace = trace_of(scope)
        with occupied(server.queue, scope, head.timeout) as place:
            loaded = admit(server, trace, RequestKind.EMBEDDINGS, value.get("user") or head.user, value.get("model"))
            wanted = _parse(value, server, loaded, trace)
            _occupy(place, trace, scope, wanted.inputs)
            tokens = _counted(loaded, dict(enumerate(map(str, wanted.inputs))))
            rows = await server.batcher.embed(embedder_of(loaded), wanted.inputs, wanted.dimensions, place)
            _describe(trace, wanted, rows)
            offer_shadow(server, loaded, wanted.inputs, rows)
            data = _entries(rows, 0, wanted.as_base64)
            last = _last(loaded, wanted, tokens, _warnings(loaded, wanted.inputs), trace.response)
        content = orjson.dumps({"object": "list", "data": data, **last}, option=OPTIONS)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            *((name.encode(), text.encode()) for name, text in release_header(loaded.ref).items()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class _Head(NamedTuple):
    """What the headers say: the timeout, the caller, and whether the body is JSON in UTF-8 as it stands."""

    timeout: float | None
    user: str
    is_plain: bool


def _read_head(headers: Sequence[tuple[bytes, bytes]]) -> _Head:
    timeout, user, is_json, is_encoded = None, "", False, False
    for name, value in headers:
        if name == b"content-type":
            is_json = value.lower() in JSON_TYPES
        elif name == b"content-encoding":
            is_encoded = True
        elif name == b"x-request-timeout":
            timeout = parse_timeout(value.decode("latin-1"))
        elif name == b"clerestory-user":
            user = value.decode("latin-1")
    return _Head(timeout, user, is_json and not is_encoded)


def _is_short(value: dict[str, Any], loaded: LoadedModel) -> bool:
    """Whether the body asks the loaded model for a few texts; the other way also finds what is wrong with it."""
    if not is_loaded(value.get("model"), loaded):
        return False
    inputs = value.get("input")
    return isinstance(inputs, str) or (isinstance(inputs, list) and len(inputs) <= FEW_INPUTS)


async def embeddings(request: Request) -> Response:
    """Answer a request of any length, in slices."""
    server = server_state(request)
    trace = request_trace(request)
    check_content_type(request)
    async with spooled_body(request, server.config.body.max_bytes) as body:
        with occupied(server.queue, request.scope, timeout_of(request)) as place:
            async with server.body_budget.reserve(body.max_size):
                trace.bind(RequestKind.EMBEDDINGS, server.follower.loaded)
                value = await server.in_thread(lambda: json_object(body.content(), "input"))
                loaded = admit(server, trace, RequestKind.EMBEDDINGS, *caller_of(value, request.headers))
                wanted = await server.in_thread(_parse, value, server, loaded, trace)
                _occupy(place, trace, request.scope, wanted.inputs)
                tokens = 0
                for texts in _slices(wanted.inputs):
                    tokens += await server.in_thread(_counted, loaded, texts)
                rows = await server.batcher.embed(embedder_of(loaded), wanted.inputs, wanted.dimensions, place)
                _describe(trace, wanted, rows)
                offer_shadow(server, loaded, wanted.inputs, rows)
                warnings = await server.in_thread(_warnings, loaded, wanted.inputs)
                content = await _write(server, loaded, wanted, rows, tokens, warnings, trace.response)
    return Response(content, media_type="application/json", headers=release_header(loaded.ref))


def _parse(body: Mapping[str, Any], server: ServerState, loaded: LoadedModel, trace: RequestTrace) -> EmbeddingRequest:
    wanted = embedding_request(body, server.store, loaded)
    trace.describe(input_hash=server.request_log.hash_of("input", *wanted.inputs))
    return wanted


def _counted(loaded: LoadedModel, texts: dict[int, str]) -> int:
    """The tokens of some texts, by their positions; 0 where the tokenizer is not known.

    Raises:
        RequestRejected: a text has more than the model accepts.
    """
    counter = loaded.tokens
    if counter is None:
        return 0
    counts = counter.count(list(texts.values()))
    for position, count in zip(texts, counts, strict=True):
        if count > counter.limit:
            raise RequestRejected(
                f"input[{position}] has {count:,} tokens; the maximum is {counter.limit:,}",
                "shorten it, or split it into several inputs",
                code="too_many_tokens",
                param=f"input[{position}]",
            )
    return sum(counts)


def _warnings(loaded: LoadedModel, inputs: Sequence[str | bytes]) -> list[dict[str, Any]]:
    """The texts that seem to be in a language that the model was not trained on; the first ones only."""
    texts = ((i, each[:MAX_JUDGED]) for i, each in enumerate(inputs[:MAX_WARNINGS]) if isinstance(each, str))
    checked = ((i, loaded.languages.check(text)) for i, text in texts)
    return [{"index": i, "message": found.sentence} for i, found in checked if found]


def _slices(inputs: Sequence[str | bytes]) -> Iterator[dict[int, str]]:
    """The texts by position, in slices of about ``SLICE_CHARACTERS``."""
    texts: dict[int, str] = {}
    size = 0
    for position, each in enumerate(inputs):
        if isinstance(each, str):
            texts[position] = each
            size += len(each)
            if size > SLICE_CHARACTERS:
                yield texts
                texts, size = {}, 0
    if texts:
        yield texts


def _occupy(place: Place, trace: RequestTrace, scope: Scope, inputs: Sequence[str | bytes]) -> None:
    """Count the inputs against the bounds of the queue, and charge the key for them.

    Raises:
        Overloaded: they exceed a bound now.
        RateLimited, RequestRejected: the key may not spend what they cost.
    """
    images = tuple(each for each in inputs if isinstance(each, bytes))
    pixels = sum(width * height for width, height in map(declared_size, images))
    trace.describe(inputs=len(inputs), images=len(images), pixels=pixels)
    trace.images = images
    charge(scope, sum(len(each) for each in inputs if isinstance(each, str)), pixels)
    place.add(sum(map(len, inputs)), pixels)


def _describe(trace: RequestTrace, wanted: EmbeddingRequest, rows: Rows) -> None:
    """Add the embeddings to the record of the request.

    Raises:
        CapabilityError: one is not finite.
    """
    squares = np.einsum("nd,nd->n", rows, rows)
    low, high = float(squares.min()), float(squares.max())  # NaN if any is
    characters = sum(len(each) for each in wanted.inputs if isinstance(each, str))
    trace.describe(characters=characters, finite=0 < low <= high < np.inf)
    trace.embeddings = rows
    if not high < np.inf:
        raise CapabilityError("the model's embedding of an input is not finite", "send other inputs")


def _last(
    loaded: LoadedModel, wanted: EmbeddingRequest, tokens: int, warnings: list[dict[str, Any]], response: str
) -> dict[str, Any]:
    """What follows the embeddings in the body of the response."""
    images = sum(isinstance(each, bytes) for each in wanted.inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "images": images}
    last = {"model": loaded.ref, "usage": usage, "id": response}
    return {**last, "warnings": warnings} if warnings else last


async def _write(
    server: ServerState,
    loaded: LoadedModel,
    wanted: EmbeddingRequest,
    rows: Rows,
    tokens: int,
    warnings: list[dict[str, Any]],
    response: str,
) -> bytes:
    """The JSON of the response, written in slices: all at once would stop every other thread for long."""
    tail = orjson.dumps(_last(loaded, wanted, tokens, warnings, response))
    step = max(1, SLICE_NUMBERS // wanted.dimensions)
    parts = [
        await server.in_thread(_write_rows, rows[start : start + step], start, wanted.as_base64)
        for start in range(0, len(rows), step)
    ]
    return b'{"object":"list","data":[' + b",".join(parts) + b"]," + tail[1:]


def _write_rows(rows: Rows, first: int, as_base64: bool) -> bytes:
    return orjson.dumps(_entries(rows, first, as_base64), option=OPTIONS)[1:-1]


def _entries(rows: Rows, first: int, as_base64: bool) -> list[dict[str, Any]]:
    """The embeddings as JSON has them: numbers as short as their 32 bits allow, or base64."""
    if as_base64:
        written: Sequence[Any] = [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode() for row in rows]
    else:
        written = list(np.ascontiguousarray(rows))
    return [{"object": "embedding", "index": i, "embedding": each} for i, each in enumerate(written, first)]
