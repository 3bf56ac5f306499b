"""``/channel/{name}``: what is live, and the buttons that change it, each with a name and a reason."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.core.errors import Conflict, InputError, NotFound, not_found
from clerestory.core.provenance import current_user
from clerestory.stages.release.promotion import (
    LIVE,
    PREVIOUS,
    change_canary,
    promote,
    promote_canary,
    rollback,
    start_canary,
)
from clerestory.store.approvals import PROMOTED, ROLLED_BACK
from clerestory.store.operations.rollouts import RolloutPlan, active_rollout, list_rollouts, read_evidence
from clerestory.web.access_control import session_label
from clerestory.web.request_body import read_body
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page

MAX_FORM_BYTES = 20_000
MAX_RECORDS = 10
DONE = {
    "promote": "is live now. Servers follow within seconds.",
    "rollback": "is live again. Servers follow within seconds.",
    "canary": "answers a share of the requests from now on.",
    "pause": "stays at its share until it is resumed.",
    "resume": "goes on to its next step when the guardrails allow it.",
    "abort": "receives no more requests.",
}
_LIVE_KINDS = (PROMOTED, ROLLED_BACK)


async def channel_page(request: Request) -> Response:
    """``GET /channel/{name}``: what is live, what was live before, and what is being tried."""
    server = server_state(request)
    name = request.path_params["name"]
    done, ref = request.query_params.get("done", ""), request.query_params.get("ref", "")[:80]
    context = await asyncio.to_thread(_context, server, name)
    who = session_label(request) or current_user()
    message = f"{ref} {DONE[done]}" if done in DONE and ref else ""
    return page(request, "channel.html", {**context, "who": who, "message": message})


async def change(request: Request) -> Response:
    """``POST /channel/{name}``: promote, roll back, or change what is being tried."""
    server = server_state(request)
    name = request.path_params["name"]
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=20))
    if form.get("confirmed") != "yes":
        raise RequestRejected("the step was not confirmed", "go back and tick the box")
    try:
        ref = await asyncio.to_thread(_change, server, name, form, session_label(request))
    except Conflict as error:
        raise RequestRejected(error.message, "look at the page again, then decide", status=409) from error
    except NotFound:
        raise
    except InputError as error:
        raise RequestRejected(error.message, error.fix.replace("--why '...'", "in the field “Why”")) from error
    return RedirectResponse(
        f"/channel/{quote(name, safe='')}?done={quote(form['do'])}&ref={quote(ref)}", status_code=303
    )


def _change(server: ServerState, name: str, form: dict[str, str], signed_in: str) -> str:
    """Carry out one step; returns the release that it is about."""
    store, step, why = server.store, form.get("do", ""), form.get("why", "")
    who = signed_in or form.get("who", "")  # who signed in cannot act in another name
    number = form.get("number", "")
    if step in ("promote", "canary"):
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise RequestRejected("no release was chosen", "choose one of the list")
        ref = f"{name}@{int(number)}"
        if step == "promote":
            promote(ref, store, who, why, expected_generation=_generation(form))
        else:
            start_canary(ref, store, RolloutPlan(), who, why)
        return ref
    if step == "rollback":
        if str(_live_generation(server, name)) != form.get("generation", ""):
            raise Conflict(f"somebody has changed what is live of {name} meanwhile", "")
        alias = rollback(name, store, who, why)
        return f"{alias.name}@{alias.number}"
    if step == "promote-canary":
        alias = promote_canary(name, store, who, why)
        form["do"] = "promote"
        return f"{alias.name}@{alias.number}"
    if step in ("pause", "resume", "abort"):
        return change_canary(name, store, step, who, why).ref  # type: ignore[arg-type]  # one of the literals
    raise RequestRejected("there is no such step", "use the buttons of the page")


def _generation(form: dict[str, str]) -> int:
    text = form.get("generation", "")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise RequestRejected("the form is not complete", "use the buttons of the page")
    return int(text)


def _live_generation(server: ServerState, name: str) -> int:
    live = server.store.alias(name, LIVE)
    return live.generation if live is not None else 0


def _context(server: ServerState, name: str) -> dict[str, object]:
    store = server.store
    releases = store.releases(name)
    if not releases:
        raise not_found("model", name, {each.name for each in store.releases()})
    store.database.ensure_operations()
    with store.database.reading() as connection:
        rollout = active_rollout(connection, name)
        evidence = read_evidence(connection, rollout.id) if rollout is not None else {}
        ended = [each for each in list_rollouts(connection, name, 6) if not each.is_active]
    live, previous = store.alias(name, LIVE), store.alias(name, PREVIOUS)
    number = live.number if live is not None else 0
    return {
        "shown_name": name,
        "now_live": store.release(name, number) if number else None,
        "before": store.release(name, previous.number) if previous is not None else None,
        "generation": live.generation if live is not None else 0,
        "candidates": [each for each in releases if each.number != number and each.decision.verdict == "ship"],
        "refused": sum(each.decision.verdict != "ship" for each in releases),
        "rollout": rollout,
        "guardrails": list(evidence.items()),
        "ended": ended[:5],
        "records": list(reversed(store.journal.records(f"{name}@", MAX_RECORDS, _LIVE_KINDS))),
    }
