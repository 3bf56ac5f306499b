"""``/data``: the datasets, the findings of their audits, and what a person decides about each: accept it, or fix it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from clerestory.apps.acceptance import accept_finding, withdraw_acceptances
from clerestory.apps.data_fix.run import make_version, plan_fix
from clerestory.core.errors import ClerestoryError, ConfigError, InputError
from clerestory.core.provenance import current_user
from clerestory.stages.audit.run import read_audit
from clerestory.store.acceptances import today
from clerestory.web.data_view import (
    ContactSheets,
    chosen_codes,
    dataset_lines,
    dataset_page,
    dataset_row,
    newest_audit,
)
from clerestory.web.request_body import read_body
from clerestory.web.security import RequestRejected
from clerestory.web.state import server_state
from clerestory.web.views import page, status_of, url

MAX_FORM_BYTES, MAX_FIELDS = 20_000, 100
SHEET_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
ACCEPTED_DAYS = 90  # the default of an acceptance; a person may choose another day


async def datasets_page(request: Request) -> Response:
    """``GET /data``: every dataset of the store, and whether anything is wrong with it."""
    lines = await asyncio.to_thread(dataset_lines, server_state(request).store)
    return page(request, "datasets.html", {"lines": lines})


async def dataset_findings_page(request: Request) -> Response:
    """``GET /data/{name}``: the findings of the newest audit of a dataset."""
    return await _findings(request)


async def contact_sheets(request: Request) -> Response:
    """``GET /data/{name}/audit``: the images of every finding, a page that loads nothing."""
    server = server_state(request)
    sheets: ContactSheets | None = getattr(request.app.state, "contact_sheets", None)
    if sheets is None:
        sheets = request.app.state.contact_sheets = ContactSheets(server.store)
    html = await asyncio.to_thread(sheets.page, request.path_params["name"], server.data)
    return HTMLResponse(html, headers={"content-security-policy": SHEET_POLICY})


async def decide(request: Request) -> Response:
    """``POST /data/{name}``: accept a finding, withdraw an acceptance, or make a fixed version of the dataset.

    What a person wrote stays in the form when it is refused.
    """
    name = request.path_params["name"]
    form = await _form(request)
    try:
        target, notice = await asyncio.to_thread(_decide, request, name, form)
    except (InputError, ConfigError) as error:
        return await _findings(request, form, error)
    return RedirectResponse(url(f"/data/{quote(target, safe='')}", done=notice), status_code=303)


def _decide(request: Request, name: str, form: dict[str, str]) -> tuple[str, str]:
    """Carry out what the form says; returns the dataset to show next, and the kind of change."""
    store = server_state(request).store
    row = dataset_row(store, name)
    who, why = form.get("who", "").strip(), form.get("why", "").strip()
    match form.get("do", ""):
        case "accept":
            accept_finding(store, row.name, form.get("code", ""), why=why, expires=form.get("expires", ""), who=who)
            return name, "accepted"
        case "withdraw":
            withdraw_acceptances(store, row.name, form.get("code", ""), why=why, who=who)
            return name, "withdrawn"
        case "fix":
            codes = chosen_codes(form)
            if not codes:
                raise InputError("no fix is chosen", "tick at least one")
            if not why:
                raise InputError("a fix needs a reason", "write why the dataset is changed")
            evidence = newest_audit(store, row)
            config = read_audit(evidence, store)[1] if evidence else None
            planned = plan_fix(store, row.name, config, codes)
            return make_version(store, planned, name=form.get("name", "").strip(), who=who, why=why).name, "fixed"
        case other:
            raise RequestRejected(f"the form asks for {other!r}", "send it from the page")


async def _findings(
    request: Request, form: dict[str, str] | None = None, error: ClerestoryError | None = None
) -> Response:
    store = server_state(request).store
    view = await asyncio.to_thread(partial(dataset_page, store, request.path_params["name"]))
    context = {
        "view": view,
        "form": form or {},
        "error": error,
        "done": request.query_params.get("done", ""),
        "who": current_user(),
        "first_day": today().isoformat(),
        "expires": (today() + timedelta(days=ACCEPTED_DAYS)).isoformat(),
    }
    return page(request, "dataset.html", context, status_of(error)[0] if error else 200)


async def _form(request: Request) -> dict[str, str]:
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise RequestRejected("the form has too many fields", "send it from the page") from error
