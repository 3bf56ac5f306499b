"""The HTTP API: embeddings in OpenAI's format, the served model, and health."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clerestory.core.errors import ClerestoryError, UploadError, closest
from clerestory.data.images import decode_image
from clerestory.models.protocols import Embedder
from clerestory.web.model_follower import LoadedModel
from clerestory.web.security import RequestRejected, read_body
from clerestory.web.state import ServerState, server_state
from clerestory.web.uploads import MAX_IMAGE_BYTES
from clerestory.web.views import RELEASE_HEADER

MAX_INPUTS = 256
MAX_BODY_BYTES = 48_000_000
PARAMETERS = ("input", "model", "dimensions", "encoding_format", "user")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A validated request for embeddings; an input is a text or the bytes of an image."""

    inputs: tuple[str | bytes, ...]
    dimensions: int
    as_base64: bool


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    server = server_state(request)
    with server.queue.admit():
        loaded = server.follower.loaded
        wanted = _parse(await _json_body(request), server, loaded)
        tokens = _count_tokens(loaded, wanted.inputs)
        rows = await server.queue.run(_embed, loaded, wanted)
    data = [{"object": "embedding", "index": i, "embedding": _encode(row, wanted)} for i, row in enumerate(rows)]
    images = sum(isinstance(each, bytes) for each in wanted.inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "images": images}
    body = {"object": "list", "data": data, "model": loaded.ref, "usage": usage}
    return JSONResponse(body, headers={RELEASE_HEADER: loaded.ref})


async def models(request: Request) -> Response:
    """``GET /v1/models``: the served model."""
    loaded = server_state(request).follower.loaded
    release, embedder = loaded.release, loaded.embedder
    entry = {
        "id": loaded.ref,
        "object": "model",
        "created": int(datetime.fromisoformat(release.when).timestamp()) if release else 0,
        "owned_by": release.who if release else "",
        "alias": "live" if release else "",
        "digest": loaded.model.digest,
        "dimensions": list(embedder.dims) if embedder else [],
        "capabilities": list(loaded.capabilities),
        "facts": loaded.model.facts(),
    }
    return JSONResponse({"object": "list", "data": [entry]}, headers={RELEASE_HEADER: loaded.ref})


async def health(request: Request) -> Response:
    """``GET /healthz``: the process responds."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """``GET /readyz``: the model is loaded, the images are indexed, and the server is not shutting down."""
    follower = server_state(request).follower
    if reason := follower.not_ready_reason:
        return JSONResponse({"status": "not ready", "reason": reason}, 503, headers={"retry-after": "2"})
    loaded = follower.loaded
    body = {"status": "ready", "release": loaded.ref, "digest": loaded.model.digest}
    if follower.load_error:
        body["warning"] = follower.load_error
    return JSONResponse(body, headers={RELEASE_HEADER: loaded.ref})


async def _json_body(request: Request) -> Mapping[str, Any]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise RequestRejected(
            "the body is not JSON", "send it with Content-Type: application/json", 415, "unsupported_media_type"
        )
    try:
        body = json.loads(await read_body(request, MAX_BODY_BYTES))
    except (ValueError, RecursionError) as error:
        raise RequestRejected("the body is not valid JSON", "check it with a JSON parser") from error
    if not isinstance(body, dict):
        raise RequestRejected("the body is not a JSON object", 'send {"input": ...}')
    return body


def _parse(body: Mapping[str, Any], server: ServerState, loaded: LoadedModel) -> EmbeddingRequest:
    for name in body:
        if name not in PARAMETERS:
            near = closest(name, PARAMETERS)
            hint = f"did you mean {near[0]}?" if near else f"the parameters are {', '.join(PARAMETERS)}"
            raise RequestRejected(f"there is no parameter {name[:80]!r}", hint)
    value = body.get("input")
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not inputs or not all(isinstance(each, str) for each in inputs):
        raise RequestRejected(
            "input is not a text or a list of texts", "send a string, a list of strings, or data: URIs of images"
        )
    if len(inputs) > MAX_INPUTS:
        problem = f"the request has {len(inputs)} inputs"
        raise RequestRejected(problem, f"send at most {MAX_INPUTS} at once", 413, "too_large")
    dims = _embedder(loaded).dims
    dimensions = dims[-1] if body.get("dimensions") is None else body["dimensions"]
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions not in dims:
        raise RequestRejected(
            f"dimensions is {str(dimensions)[:40]}", f"the model supports {', '.join(map(str, dims))}"
        )
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise RequestRejected(f"there is no encoding_format {str(encoding)[:40]!r}", "use float or base64")
    _check_model(body.get("model"), server, loaded)
    parsed = tuple(_parse_input(each, i) for i, each in enumerate(inputs))
    return EmbeddingRequest(parsed, int(dimensions), encoding == "base64")


def _check_model(ref: object, server: ServerState, loaded: LoadedModel) -> None:
    """Accept any reference to the loaded model; reject all others, since no other model is loaded."""
    release = loaded.release
    names = {loaded.ref, loaded.model.digest} | ({release.name, f"{release.name}@live"} if release else set())
    if ref is None or ref == "" or (isinstance(ref, str) and ref in names):
        return
    fix = f"use {loaded.ref}{f' or {release.name}@live' if release else ''}, or omit model"
    if not isinstance(ref, str):
        raise RequestRejected("model is not a string", fix)
    try:
        if server.store.resolve(ref).digest == loaded.model.digest:
            return
    except ClerestoryError as error:
        raise RequestRejected(f"there is no model {ref[:80]!r}", fix, 404, "not_found") from error
    raise RequestRejected(f"{ref[:80]} is not the served release", fix, 404, "not_found")


def _embedder(loaded: LoadedModel) -> Embedder:
    if loaded.embedder is None:
        raise RequestRejected(
            f"{loaded.ref} does not produce embeddings",
            "start the server with a model that does, such as hf:org/name of a CLIP",
        )
    return loaded.embedder


def _parse_input(text: str, position: int) -> str | bytes:
    where = f"input[{position}]"
    if text[:5].lower() != "data:":
        if not text.strip():
            raise RequestRejected(f"{where} is empty", "send at least one word")
        return text
    head, comma, payload = text.partition(",")
    if not comma:
        problem = f"{where} is not a data: URI"
        raise RequestRejected(problem, "send data:image/png;base64,...", kind="invalid_image")
    if len(payload) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        limit = f"{MAX_IMAGE_BYTES // 1_000_000} MB"
        raise RequestRejected(
            f"{where} is larger than {limit}", f"send an image smaller than {limit}", 413, "too_large"
        )
    try:
        if head.lower().endswith(";base64"):
            return base64.b64decode(payload, validate=True)
        return unquote_to_bytes(payload)
    except (binascii.Error, ValueError) as error:
        problem = f"{where} is not valid base64"
        raise RequestRejected(problem, "encode the whole image file", kind="invalid_image") from error


def _count_tokens(loaded: LoadedModel, inputs: Sequence[str | bytes]) -> int:
    """The tokens of all texts; 0 where the tokenizer is not known."""
    counter, total = loaded.tokens, 0
    if counter is None:
        return 0
    for position, each in enumerate(inputs):
        if isinstance(each, bytes):
            continue
        count = counter.count(each)
        if count > counter.limit:
            raise RequestRejected(
                f"input[{position}] has {count} tokens, the model accepts {counter.limit}",
                "shorten it, or split it into several inputs",
            )
        total += count
    return total


def _embed(loaded: LoadedModel, wanted: EmbeddingRequest) -> NDArray[np.float32]:
    """The rows (N, D) in the order of the inputs; runs in the model's thread, with one decoded image at a time."""
    model = _embedder(loaded)
    rows = np.empty((len(wanted.inputs), wanted.dimensions), dtype=np.float32)
    texts = [(i, each) for i, each in enumerate(wanted.inputs) if isinstance(each, str)]
    if texts:
        rows[[i for i, _ in texts]] = model.embed_texts([each for _, each in texts], wanted.dimensions)
    for i, each in enumerate(wanted.inputs):
        if isinstance(each, bytes):
            try:
                image = decode_image(each)
            except UploadError as error:
                raise UploadError(f"input[{i}]: {error.message}", error.fix, error.status) from error
            rows[i] = model.embed_images([image], wanted.dimensions)[0]
    return rows


def _encode(row: NDArray[np.float32], wanted: EmbeddingRequest) -> str | list[float]:
    if wanted.as_base64:
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return [float(value) for value in row]
