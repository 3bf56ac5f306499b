"""The HTTP API: embeddings in OpenAI's format, the served model, and health."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from python_multipart.multipart import parse_options_header
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clerestory.core.errors import CapabilityError
from clerestory.data.images import declared_size
from clerestory.stages.serve.inference_queue import Place
from clerestory.store.operations.prediction import RequestKind
from clerestory.web.admission import admit, caller_of
from clerestory.web.embedding_request import EmbeddingRequest, check_model, embedder_of, embedding_request
from clerestory.web.input_values import json_object
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.openapi import description
from clerestory.web.request_body import spooled_body, timeout_of
from clerestory.web.request_trace import RequestTrace, request_trace
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import release_header

MAX_BODY_BYTES = 48_000_000
CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
SLICE_CHARACTERS = 100_000  # of texts whose tokens are counted before other requests have their turn
MAX_WARNINGS = 16  # texts whose language is judged
MAX_JUDGED = 300  # characters of each
SLICE_NUMBERS = 50_000  # of embeddings that are written before other requests have their turn


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    server = server_state(request)
    trace = request_trace(request)
    _check_content_type(request)
    async with spooled_body(request, MAX_BODY_BYTES) as body:
        with server.queue.admit(timeout_of(request)) as place:
            async with server.body_budget.reserve(body.max_size):
                trace.bind(RequestKind.EMBEDDINGS, server.follower.loaded)
                value = await server.in_thread(lambda: json_object(body.content(), "input"))
                loaded = admit(server, trace, RequestKind.EMBEDDINGS, *caller_of(value, request.headers))
                wanted = await server.in_thread(_parse, value, server, loaded, trace)
                _occupy(place, trace, wanted.inputs)
                tokens = await _count_tokens(server, loaded, wanted.inputs)
                rows = await server.batcher.embed(embedder_of(loaded), wanted.inputs, wanted.dimensions, place)
                _describe(trace, wanted, rows)
                if not np.isfinite(rows).all():
                    raise CapabilityError("the model's embedding of an input is not finite", "send other inputs")
                warnings = await server.in_thread(_warnings, loaded, wanted.inputs)
                content = await _write(server, loaded, wanted, rows, tokens, warnings, trace.response)
    return Response(content, media_type="application/json", headers=release_header(loaded.ref))


async def models(request: Request) -> Response:
    """``GET /v1/models``: the served model."""
    follower = server_state(request).follower
    loaded = follower.loaded
    body = {"object": "list", "data": [_model_entry(loaded, follower.live)]}
    return JSONResponse(body, headers=release_header(loaded.ref))


async def model(request: Request) -> Response:
    """``GET /v1/models/{model}``: the served model, by any of its names."""
    server = server_state(request)
    loaded = server.follower.loaded
    await server.in_thread(check_model, request.path_params["model"], server.store, loaded)
    return JSONResponse(_model_entry(loaded, server.follower.live), headers=release_header(loaded.ref))


async def openapi(request: Request) -> Response:
    """``GET /openapi.json``: the description of this API."""
    return JSONResponse(description())


async def health(request: Request) -> Response:
    """``GET /healthz``: the process responds."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """``GET /readyz``: the model is loaded, the images are indexed, and the server is not shutting down."""
    follower = server_state(request).follower
    loaded = follower.current
    state = {"live": follower.live, "served": loaded.ref if loaded else "", "loading": follower.loading}
    reason = follower.not_ready_reason
    if reason or loaded is None:
        body = {"status": "not ready", "reason": reason or "the release is no longer live", **state}
        return JSONResponse(body, 503, headers={"retry-after": "2"})
    body = {"status": "ready", **state, "digest": loaded.model.digest}
    if follower.load_error:
        body["warning"] = follower.load_error
    return JSONResponse(body, headers=release_header(loaded.ref))


def _model_entry(loaded: LoadedModel, live: str) -> dict[str, Any]:
    release, embedder = loaded.release, loaded.embedder
    return {
        "id": loaded.ref,
        "object": "model",
        "created": int(datetime.fromisoformat(release.when).timestamp()) if release else 0,
        "owned_by": release.who if release else "",
        "alias": "live" if release and live == loaded.ref else "",
        "digest": loaded.model.digest,
        "dimensions": list(embedder.dims) if embedder else [],
        "capabilities": list(loaded.capabilities),
        "languages": list(loaded.languages.codes),
        "facts": loaded.model.facts(),
    }


def _check_content_type(request: Request) -> None:
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type.strip().lower() != b"application/json":
        problem = "the body is not JSON"
        raise RequestRejected(problem, "send it with Content-Type: application/json", 415, "unsupported_media_type")
    charset = options.get(b"charset", b"utf-8").decode("latin-1").strip("\"' ").lower()
    if charset not in CHARSETS:
        problem = f"the charset {charset[:40]!r} is not supported"
        raise RequestRejected(problem, "send JSON in UTF-8", 415, "unsupported_media_type")


def _parse(body: Mapping[str, Any], server: ServerState, loaded: LoadedModel, trace: RequestTrace) -> EmbeddingRequest:
    wanted = embedding_request(body, server.store, loaded)
    trace.describe(input_hash=server.request_log.hash_of("input", *wanted.inputs))
    return wanted


async def _count_tokens(server: ServerState, loaded: LoadedModel, inputs: Sequence[str | bytes]) -> int:
    """The tokens of all texts; 0 where the tokenizer is not known.

    Raises:
        RequestRejected: a text has more than the model accepts.
    """
    counter, total = loaded.tokens, 0
    if counter is None:
        return 0
    for texts in _slices(inputs):
        counts = await server.in_thread(counter.count, list(texts.values()))
        for position, count in zip(texts, counts, strict=True):
            if count > counter.limit:
                raise RequestRejected(
                    f"input[{position}] has {count:,} tokens; the maximum is {counter.limit:,}",
                    "shorten it, or split it into several inputs",
                    code="too_many_tokens",
                    param=f"input[{position}]",
                )
        total += sum(counts)
    return total


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


async def _write(
    server: ServerState,
    loaded: LoadedModel,
    wanted: EmbeddingRequest,
    rows: NDArray[np.float32],
    tokens: int,
    warnings: list[dict[str, Any]],
    response: str,
) -> bytes:
    """The JSON of the response, written in slices: all at once would stop every other thread for up to a second."""
    images = sum(isinstance(each, bytes) for each in wanted.inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "images": images}
    tail = json.dumps(
        {"id": response, "model": loaded.ref, "usage": usage} | ({"warnings": warnings} if warnings else {})
    )
    step = max(1, SLICE_NUMBERS // wanted.dimensions)
    parts = [
        await server.in_thread(_write_rows, rows[start : start + step], start, wanted.as_base64)
        for start in range(0, len(rows), step)
    ]
    return b'{"object": "list", "data": [' + b", ".join(parts) + b"], " + tail[1:].encode()


def _occupy(place: Place, trace: RequestTrace, inputs: Sequence[str | bytes]) -> None:
    """Count the inputs against the bounds of the queue.

    Raises:
        Overloaded: they exceed a bound now.
    """
    images = tuple(each for each in inputs if isinstance(each, bytes))
    pixels = sum(width * height for width, height in map(declared_size, images))
    trace.describe(inputs=len(inputs), images=len(images), pixels=pixels)
    trace.images = images
    place.add(sum(map(len, inputs)), pixels)


def _describe(trace: RequestTrace, wanted: EmbeddingRequest, rows: NDArray[np.float32]) -> None:
    """What the record of the request says of its inputs and embeddings."""
    characters = sum(len(each) for each in wanted.inputs if isinstance(each, str))
    finite = bool(np.isfinite(rows).all() and (np.abs(rows).max(axis=1) > 0).all())
    trace.describe(characters=characters, finite=finite)
    trace.embeddings = rows


def _write_rows(rows: NDArray[np.float32], first: int, as_base64: bool) -> bytes:
    entries = []
    for index, row in enumerate(rows, first):
        embedding = base64.b64encode(row.astype("<f4").tobytes()).decode() if as_base64 else row.tolist()
        entries.append(json.dumps({"object": "embedding", "index": index, "embedding": embedding}))
    return ", ".join(entries).encode()
