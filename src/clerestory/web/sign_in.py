"""``/sign-in``: exchanges an API key for the session of a browser; ``/sign-out`` ends it."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.core.units import duration
from clerestory.web.access_control import SIGN_IN
from clerestory.web.request_body import read_body
from clerestory.web.security import RequestRejected
from clerestory.web.sessions import SESSION_COOKIE
from clerestory.web.state import server_state
from clerestory.web.views import page

MAX_FORM_BYTES = 4_000
PROBLEMS = {
    "unknown": "This is not a valid key. Copy the whole of it, from clr_ to its last character.",
    "expired": "This key has expired. Ask whoever gave it to you for a new one.",
    "revoked": "This key was revoked. Ask whoever gave it to you for a new one.",
}


async def sign_in_page(request: Request) -> Response:
    """``GET /sign-in``: the form, with the page to go to afterwards in ``next``."""
    return _form(request, request.query_params.get("next", ""))


async def sign_in(request: Request) -> Response:
    """``POST /sign-in``: check the key and begin a session."""
    access = server_state(request).access
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    try:
        form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=8))
    except ValueError as error:
        raise RequestRejected("the form has too many fields", "send it from the page") from error
    key, state = access.ring.check(form.get("key", "").strip(), time.time())
    if key is None or state != "valid":
        return _form(request, form.get("next", ""), PROBLEMS[state], 401)
    response = RedirectResponse(own_path(form.get("next", "")), status_code=303)
    response.set_cookie(
        SESSION_COOKIE,
        access.sessions.issue(key.id, time.time()),
        max_age=int(access.sessions.seconds),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


async def sign_out(request: Request) -> Response:
    """``POST /sign-out``: end the session in this browser."""
    response = RedirectResponse(SIGN_IN, status_code=303)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return response


def own_path(path: str) -> str:
    """A path of this server to go to; the start page instead of anything that a browser takes for another site."""
    if not path.startswith("/") or path[1:2] in {"/", "\\"} or not path.isprintable() or path.startswith(SIGN_IN):
        return "/"
    return path


def _form(request: Request, following: str, problem: str = "", status: int = 200) -> Response:
    hours = duration(server_state(request).access.sessions.seconds)
    context = {"next": own_path(following), "problem": problem, "session_hours": hours}
    return page(request, "sign_in.html", context, status)
