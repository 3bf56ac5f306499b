"""The HTTP API: embeddings in OpenAI's shape, the served model, and health."""

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
from clerestory.web.model_follower import Served
from clerestory.web.security import Turned, read_body
from clerestory.web.state import Site, site
from clerestory.web.uploads import PICTURE_BYTES
from clerestory.web.views import RELEASE_HEADER

INPUTS = 256
BODY_BYTES = 48_000_000
KEYS = ("input", "model", "dimensions", "encoding_format", "user")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for embeddings, checked; an input is a text or the bytes of a picture."""

    inputs: tuple[str | bytes, ...]
    dimensions: int
    as_base64: bool


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    here = site(request)
    with here.work.admit():
        served = here.live.served
        asked = _read(await _json(request), here, served)
        tokens = _count_tokens(served, asked.inputs)
        rows = await here.work.run(_embed, served, asked)
    data = [{"object": "embedding", "index": i, "embedding": _encode(row, asked)} for i, row in enumerate(rows)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "images": sum(isinstance(i, bytes) for i in asked.inputs)}
    body = {"object": "list", "data": data, "model": served.ref, "usage": usage}
    return JSONResponse(body, headers={RELEASE_HEADER: served.ref})


async def models(request: Request) -> Response:
    """``GET /v1/models``: the served release, or the model from elsewhere."""
    served = site(request).live.served
    release, embedder = served.release, served.embedder
    entry = {
        "id": served.ref,
        "object": "model",
        "created": int(datetime.fromisoformat(release.when).timestamp()) if release else 0,
        "owned_by": release.who if release else "",
        "alias": "live" if release else "",
        "digest": served.model.digest,
        "dimensions": list(embedder.dims) if embedder else [],
        "capabilities": list(served.able),
        "facts": served.model.facts(),
    }
    return JSONResponse({"object": "list", "data": [entry]}, headers={RELEASE_HEADER: served.ref})


async def health(request: Request) -> Response:
    """``GET /healthz``: the process answers."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """``GET /readyz``: a model is loaded, the pictures are indexed, and the server is not shutting down."""
    live = site(request).live
    if why := live.why_not_ready:
        return JSONResponse({"status": "not ready", "reason": why}, 503, headers={"retry-after": "2"})
    served = live.served
    body = {"status": "ready", "release": served.ref, "digest": served.model.digest}
    return JSONResponse(
        body | ({"warning": live.trouble} if live.trouble else {}), headers={RELEASE_HEADER: served.ref}
    )


async def _json(request: Request) -> Mapping[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Turned(
            "the body is not JSON", "send it with Content-Type: application/json", 415, "unsupported_media_type"
        )
    try:
        body = json.loads(await read_body(request, BODY_BYTES))
    except (ValueError, RecursionError) as error:
        raise Turned("the body is not valid JSON", "check it with a JSON parser") from error
    if not isinstance(body, dict):
        raise Turned("the body is not a JSON object", 'send {"input": ...}')
    return body


def _read(body: Mapping[str, Any], here: Site, served: Served) -> Asked:
    for key in body:
        if key not in KEYS:
            near = closest(key, KEYS)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(KEYS)}"
            raise Turned(f"there is no parameter {key[:80]!r}", hint)
    given = body.get("input")
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or not all(isinstance(each, str) for each in inputs):
        raise Turned(
            "input is not a text or a list of texts", "give a string, a list of strings, or data: URIs of pictures"
        )
    if len(inputs) > INPUTS:
        raise Turned(f"{len(inputs)} inputs were sent", f"send at most {INPUTS} at once", 413, "too_large")
    dims = _embedder(served).dims
    wanted = body.get("dimensions")
    dimensions = dims[-1] if wanted is None else wanted
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions not in dims:
        raise Turned(f"{str(wanted)[:40]} dimensions were asked for", f"the model has {', '.join(map(str, dims))}")
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise Turned(f"there is no encoding_format {str(encoding)[:40]!r}", "it takes float or base64")
    _check_model(body.get("model"), here, served)
    return Asked(tuple(_input(each, i) for i, each in enumerate(inputs)), int(dimensions), encoding == "base64")


def _check_model(ref: object, here: Site, served: Served) -> None:
    """Any reference to the served release will do; another one is refused, since only one is loaded."""
    release = served.release
    names = {served.ref, served.model.digest} | ({release.name, f"{release.name}@live"} if release else set())
    if ref is None or ref == "" or (isinstance(ref, str) and ref in names):
        return
    fix = f"ask for {served.ref}{f' or {release.name}@live' if release else ''}, or leave model out"
    if not isinstance(ref, str):
        raise Turned("model is not a string", fix)
    try:
        if here.store.resolve(ref).digest == served.model.digest:
            return
    except ClerestoryError as error:
        raise Turned(f"there is no model {ref[:80]!r}", fix, 404, "not_found") from error
    raise Turned(f"{ref[:80]} is not the release that is served", fix, 404, "not_found")


def _embedder(served: Served) -> Embedder:
    if served.embedder is None:
        raise Turned(
            f"{served.ref} does not give embeddings",
            "start the server with a model that does, such as hf:org/name of a CLIP",
        )
    return served.embedder


def _input(text: str, place: int) -> str | bytes:
    if text[:5].lower() != "data:":
        if not text.strip():
            raise Turned(f"input[{place}] is empty", "give it some words")
        return text
    head, comma, payload = text.partition(",")
    if not comma:
        raise Turned(f"input[{place}] is not a data: URI", "give data:image/png;base64,...", kind="invalid_picture")
    if len(payload) > PICTURE_BYTES * 4 // 3 + 4:
        limit = PICTURE_BYTES // 1_000_000
        raise Turned(f"input[{place}] is larger than {limit} MB", f"send it smaller than {limit} MB", 413, "too_large")
    try:
        if head.lower().endswith(";base64"):
            return base64.b64decode(payload, validate=True)
        return unquote_to_bytes(payload)
    except (binascii.Error, ValueError) as error:
        raise Turned(
            f"input[{place}] is not valid base64", "encode the whole picture", kind="invalid_picture"
        ) from error


def _count_tokens(served: Served, inputs: Sequence[str | bytes]) -> int:
    total = 0
    for place, each in enumerate(inputs):
        if isinstance(each, bytes):
            continue
        if served.tokens is None:
            continue  # the model does not tell
        count = served.tokens.count(each)
        if count > served.tokens.most:
            raise Turned(
                f"input[{place}] has {count} word pieces and the model reads {served.tokens.most}",
                "shorten it, or split it into several inputs",
            )
        total += count
    return total


def _embed(served: Served, asked: Asked) -> NDArray[np.float32]:
    """The rows (N, D) in the order of the inputs; runs in the model's thread, one decoded picture at a time."""
    model = _embedder(served)
    rows = np.empty((len(asked.inputs), asked.dimensions), dtype=np.float32)
    texts = [(i, each) for i, each in enumerate(asked.inputs) if isinstance(each, str)]
    if texts:
        rows[[i for i, _ in texts]] = model.embed_texts([each for _, each in texts], asked.dimensions)
    for i, each in enumerate(asked.inputs):
        if isinstance(each, bytes):
            try:
                picture = decode_image(each)
            except UploadError as error:
                raise UploadError(f"input[{i}]: {error.message}", error.fix, error.status) from error
            rows[i] = model.embed_images([picture], asked.dimensions)[0]
    return rows


def _encode(row: NDArray[np.float32], asked: Asked) -> str | list[float]:
    if asked.as_base64:
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return [float(value) for value in row]
