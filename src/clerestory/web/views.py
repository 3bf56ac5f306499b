"""Templates to pages; errors to pages or JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import ClerestoryError, ConfigError, InputError, NotFound, UploadError
from clerestory.report import format
from clerestory.web import labels
from clerestory.web.model_follower import Served
from clerestory.web.security import SECURITY_HEADERS, Busy, Turned, error_json, is_api

LOG = logging.getLogger("clerestory.web")
HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
RELEASE_HEADER = "clerestory-release"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        words=labels, fmt=format, percent=labels.percent, static=static_url, url=url, picture_url=picture_url
    )
    return environment


@lru_cache(maxsize=32)
def static_url(name: str) -> str:
    """The address of a static file, with its digest, so that it may be kept for ever."""
    return f"/static/{name}?v={digest_bytes((STATIC / name).read_bytes())[:12]}"


def url(path: str, **query: str | int | None) -> str:
    """A path with a query; empty values are left out."""
    kept = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(kept)}" if kept else path


def picture_url(sample_id: str, image: str) -> str:
    """The address of a sample's picture, with its digest, so that it may be kept for ever."""
    return f"/pictures/{quote(sample_id, safe='/')}?v={image[:12]}"


def page(request: Request, template: str, context: Mapping[str, object], status: int = 200) -> HTMLResponse:
    """A rendered page; the header says which release it was made with."""
    site = request.app.state.site
    served = context.get("served") or site.live.current
    html = (
        _environment()
        .get_template(template)
        .render(path=request.url.path, name=site.name, live=served, trouble=site.live.trouble, **context)
    )
    headers = {RELEASE_HEADER: served.ref} if isinstance(served, Served) else {}
    return HTMLResponse(html, status, headers)


def status_of(error: ClerestoryError) -> tuple[int, str]:
    """The HTTP status and the API's ``type`` of an error."""
    if isinstance(error, Turned):
        return error.status, error.kind
    if isinstance(error, UploadError):
        kinds = {413: "too_large", 415: "unsupported_media_type"}
        return error.status, kinds.get(error.status, "invalid_picture")
    if isinstance(error, NotFound):
        return 404, "not_found"
    if isinstance(error, ConfigError | InputError):
        return 400, "invalid_request"
    return 500, "server_error"


async def on_error(request: Request, error: Exception) -> Response:
    """Answer a known error with its one sentence."""
    assert isinstance(error, ClerestoryError)
    status, kind = status_of(error)
    if status >= 500 and status != 503:
        LOG.error("%s %s: %s", request.method, request.url.path, error)
    response = _problem(request, status, kind, _sentence(error), error.fix)
    if isinstance(error, Busy):
        response.headers["retry-after"] = str(error.after)
    elif status == 503:
        response.headers["retry-after"] = "2"
        if not is_api(request.url.path) and request.method == "GET":
            response.headers["refresh"] = "3"  # the page comes by itself once the model is there
    return response


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer an address or a method that does not exist."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message, fix = "there is nothing at this address", "start from the search page"
    elif error.status_code == 405:
        message, fix = f"this address does not take {request.method}", "see docs/reference/http-api.md"
    else:
        message, fix = HTTPStatus(error.status_code).phrase, ""
    kind = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "invalid_request")
    response = _problem(request, error.status_code, kind, message, fix)
    response.headers.update(error.headers or {})
    return response


async def on_crash(request: Request, error: Exception) -> Response:
    """Answer a mistake of ours without showing its inside; the log has it."""
    response = _problem(
        request,
        500,
        "server_error",
        "something went wrong on our side",
        "try again; if it happens again, the server's log says what it is",
    )
    response.headers.update(SECURITY_HEADERS)
    return response


def _sentence(error: ClerestoryError) -> str:
    if not error.closest:
        return error.message
    return f"{error.message}; did you mean {' or '.join(error.closest)}?"


def _problem(request: Request, status: int, kind: str, message: str, fix: str) -> Response:
    if is_api(request.url.path):
        return JSONResponse(error_json(kind, message, fix), status)
    return page(request, "error.html", {"status": status, "message": message, "fix": fix}, status)
