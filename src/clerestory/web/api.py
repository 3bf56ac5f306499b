"""The HTTP API: the served model, its description, and health."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clerestory.web.embedding_request import check_model
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.openapi import description
from clerestory.web.state import server_state
from clerestory.web.views import release_header


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
