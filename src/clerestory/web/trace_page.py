"""``/trace/{id}``: what served a request, for whoever must answer for it."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.apps.response_origin import OriginState, trace_response
from clerestory.web.labels import StateLabel
from clerestory.web.state import server_state
from clerestory.web.views import page

STATES = {
    OriginState.KNOWN: StateLabel("Recorded", "yes", "yes"),
    OriginState.NONE: StateLabel("None", "", "soft"),
    OriginState.MISSING: StateLabel("Missing", "unsure", "unsure"),
}


async def trace_page(request: Request) -> Response:
    """``GET /trace/{id}``: from the request to the people who approved the model that answered."""
    server = server_state(request)
    origin = await asyncio.to_thread(trace_response, server.store, request.path_params["id"])
    return page(request, "trace.html", {"origin": origin, "states": STATES})


async def find(request: Request) -> Response:
    """``GET /trace``: a field for the id of a request; one that is given leads to its page."""
    wanted = request.query_params.get("id", "").strip()[:64]
    if wanted and all(each.isalnum() or each in "._:@+=-" for each in wanted):
        return RedirectResponse(f"/trace/{wanted}", status_code=303)
    return page(request, "trace_find.html", {"wanted": wanted})
