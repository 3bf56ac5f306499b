"""Renders templates as pages, and errors as pages or JSON."""

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
from clerestory.core.errors import (
    ClerestoryError,
    ConfigError,
    Conflict,
    InputError,
    NotFound,
    NotWritable,
    Unavailable,
    UploadError,
)
from clerestory.core.text import valid_unicode
from clerestory.core.units import duration, memory
from clerestory.report import format
from clerestory.stages.serve.inference_queue import ClientGone, DeadlineExceeded, Overloaded
from clerestory.stats.metrics import metric
from clerestory.web import labels
from clerestory.web.access_control import session_label
from clerestory.web.folder_view import file_size
from clerestory.web.interval_bar import interval_bar
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.request_ids import CLIENT_GONE, TRACE, request_id
from clerestory.web.security import SECURITY_HEADERS, RequestRejected, error_json, is_api

LOG = logging.getLogger("clerestory.web")
FOLDER = Path(__file__).resolve().parent
STATIC = FOLDER / "static"
RELEASE_HEADER = "clerestory-release"
HEADER_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@lru_cache(maxsize=64)
def _quoted(ref: str) -> str:
    return quote(ref, safe=HEADER_SAFE)


def release_header(ref: str) -> dict[str, str]:
    """The header that names the answering model; characters that no header may have are percent-encoded."""
    return {RELEASE_HEADER: _quoted(ref)}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        labels=labels,
        fmt=format,
        duration=duration,
        file_size=file_size,
        memory=memory,
        metric=metric,
        percent=labels.percent,
        fact_text=labels.fact_text,
        interval_bar=interval_bar,
        sentence_start=sentence_start,
        static=static_url,
        url=url,
        image_url=image_url,
    )
    environment.filters["valid_unicode"] = valid_unicode
    return environment


def sentence_start(text: str) -> str:
    """The text with a capital first letter, unless it begins with a name, such as ``hf:./model`` or ``icons@3``."""
    first = text.partition(" ")[0].rstrip(",;:")
    return text[:1].upper() + text[1:] if first.replace("-", "").replace("’", "").isalpha() else text


@lru_cache(maxsize=32)
def static_url(name: str) -> str:
    """The URL of a static file, with its digest, so that it may be cached for ever."""
    return f"/static/{name}?v={digest_bytes((STATIC / name).read_bytes())[:12]}"


def url(path: str, **query: str | int | None) -> str:
    """A path with a query string; empty values are omitted."""
    parameters = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(parameters)}" if parameters else path


def image_url(sample_id: str, image: str) -> str:
    """The URL of a sample's image, with its digest, so that it may be cached for ever."""
    return f"/images/{quote(sample_id, safe='/')}?v={image[:12]}"


def page(request: Request, template: str, context: Mapping[str, object], status: int = 200) -> HTMLResponse:
    """Render a template; the context may name the ``model`` of the request, by default the loaded one."""
    server = request.app.state.server
    model = context.get("model") or server.follower.current
    variables = {
        **context,
        "path": request.url.path,
        "name": server.name,
        "has_folder": server.library is not None,
        "model": model,
        "live": server.follower.live,
        "served": server.follower.served,
        "loading": server.follower.loading,
        "load_error": server.follower.load_error,
        "is_public": server.access.is_public,
        "signed_in": session_label(request),
    }
    html = _environment().get_template(template).render(variables)
    headers = release_header(model.ref) if isinstance(model, LoadedModel) else {}
    return HTMLResponse(html, status, headers)


def status_of(error: ClerestoryError) -> tuple[int, str]:
    """The HTTP status of an error and its ``type`` in the API."""
    if isinstance(error, RequestRejected):
        return error.status, error.kind
    if isinstance(error, Overloaded):
        return 429, "busy"
    if isinstance(error, DeadlineExceeded):
        return 504, "timeout"
    if isinstance(error, ClientGone):
        return CLIENT_GONE, "client_gone"
    if isinstance(error, UploadError):
        kinds = {413: "too_large", 415: "unsupported_media_type", 502: "bad_gateway", 503: "busy"}
        return error.status, kinds.get(error.status, "invalid_image")
    if isinstance(error, NotFound):
        return 404, "not_found"
    if isinstance(error, Conflict):
        return 409, "conflict"
    if isinstance(error, Unavailable):
        return 503, "unavailable"
    if isinstance(error, NotWritable):
        return 503, "not_writable"
    if isinstance(error, ConfigError | InputError):
        return 400, "invalid_request"
    return 500, "server_error"


async def on_error(request: Request, error: Exception) -> Response:
    """Respond to a ``ClerestoryError`` with its message and remedy."""
    assert isinstance(error, ClerestoryError)
    status, kind = status_of(error)
    if isinstance(error, Overloaded) and (trace := request.scope.get(TRACE)) is not None:
        trace.reason = error.reason
    if status >= 500 and status not in {503, 504}:
        LOG.error("%s %s: %s", request.method, request.url.path, error)
    code, param = (error.code, error.param) if isinstance(error, RequestRejected) else (kind, "")
    # A page that is not ready yet loads again by itself.
    reloads = status == 503 and not is_api(request.url.path) and request.method == "GET"
    fix = error.fix
    if reloads and kind == "not_ready":
        fix = "this page opens by itself as soon as the model is ready"
    elif reloads:
        fix = f"{fix}; this page loads again by itself" if fix else "this page loads again by itself"
    response = _problem(request, status, kind, _sentence(error), fix, code, param)
    if isinstance(error, RequestRejected):
        response.headers.update(error.headers)
    if isinstance(error, Overloaded):
        response.headers["retry-after"] = str(error.retry_after)
    elif status == 503:
        response.headers["retry-after"] = "2"
        if reloads:
            response.headers["refresh"] = "3"  # the page appears by itself once it can
    return response


async def on_http_error(request: Request, error: Exception) -> Response:
    """Respond to an unknown URL or method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message, fix = "this page does not exist", "start from the search page"
    elif error.status_code == 405:
        message, fix = f"this URL does not accept {request.method}", "see docs/reference/http-api.md"
    else:
        message, fix = HTTPStatus(error.status_code).phrase, ""
    kind = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "invalid_request")
    response = _problem(request, error.status_code, kind, message, fix)
    response.headers.update(error.headers or {})
    return response


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """Respond to a bug without revealing internals; the log has the traceback."""
    response = _problem(
        request,
        500,
        "server_error",
        "something went wrong on the server",
        "try again; if it happens again, the server's log has the details",
    )
    response.headers.update(SECURITY_HEADERS)
    return response


def _sentence(error: ClerestoryError) -> str:
    if not error.closest:
        return error.message
    return f"{error.message}; did you mean {' or '.join(error.closest)}?"


def wants_json(request: Request) -> bool:
    """Whether a response is read by a program: the API, or the script of a page."""
    return is_api(request.url.path) or request.headers.get("accept", "") == "application/json"


def _problem(
    request: Request, status: int, kind: str, message: str, fix: str, code: str = "", param: str = ""
) -> Response:
    if wants_json(request):
        return JSONResponse(error_json(kind, message, fix, code, param, request_id(request.scope)), status)
    context = {"title": _title(status, kind), "status": status, "message": message, "fix": fix}
    return page(request, "error.html", context, status)


def _title(status: int, kind: str) -> str:
    if status == 503:
        return "Not ready yet" if kind == "not_ready" else "Not possible just now"
    return {404: "Not found", 429: "Very busy just now"}.get(status, "That did not work")
