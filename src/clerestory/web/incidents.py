"""``/incidents``: what needs somebody, the steps taken, the runbook, and the clocks of reporting duties."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.core.errors import ClerestoryError, Conflict, InputError
from clerestory.core.people import person_name
from clerestory.core.provenance import current_user
from clerestory.stages.watch.incident_policy import policy_in, runbook
from clerestory.stages.watch.postmortem import clock_words, draft_postmortem, impact_of, response_times
from clerestory.stages.watch.recovery import cleared_since
from clerestory.store import Store
from clerestory.store.operations.incidents import (
    NEXT_STATES,
    Incident,
    IncidentState,
    incident,
    incidents,
    note,
    timeline,
    transition,
)
from clerestory.store.operations.silences import silences
from clerestory.web.access_control import admitted_key
from clerestory.web.labels import StateLabel
from clerestory.web.request_body import read_body
from clerestory.web.runbook_html import runbook_blocks
from clerestory.web.security import RequestRejected
from clerestory.web.state import server_state
from clerestory.web.views import page, status_of, url

MAX_LISTED = 100
MAX_FORM_BYTES, MAX_FIELDS = 20_000, 10
STATES = {
    IncidentState.OPEN: StateLabel("Open: nobody takes care of it yet", "no", "no"),
    IncidentState.ACKNOWLEDGED: StateLabel("Somebody takes care of it", "unsure", "unsure"),
    IncidentState.MITIGATING: StateLabel("Being mitigated", "unsure", "unsure"),
    IncidentState.MITIGATED: StateLabel("Mitigated: users are not affected any more", "yes", "sky"),
    IncidentState.RESOLVED: StateLabel("Resolved", "yes", "yes"),
    IncidentState.POSTMORTEM: StateLabel("Resolved, with a postmortem", "yes", "yes"),
}
STEPS = {
    IncidentState.ACKNOWLEDGED: "I take care of it",
    IncidentState.MITIGATING: "I have begun to mitigate it",
    IncidentState.MITIGATED: "Users are not affected any more",
    IncidentState.RESOLVED: "It is resolved",
    IncidentState.POSTMORTEM: "The postmortem is written",
}


async def incidents_page(request: Request) -> Response:
    """``GET /incidents``: every incident, those that are not resolved first."""
    store = server_state(request).store

    def read() -> dict[str, object]:
        found = incidents(store, limit=MAX_LISTED)
        found.sort(key=lambda each: each.is_resolved)  # stable: the newest first in each half
        return {
            "incidents": [(each, STATES[each.state], iso(each.opened)) for each in found],
            "num_open": sum(not each.is_resolved for each in found),
            "silences": [(each, iso(each.until)) for each in silences(store)],
        }

    return page(request, "incidents.html", await asyncio.to_thread(read))


async def incident_page(request: Request) -> Response:
    """``GET /incidents/{number}``: one incident."""
    return await _incident(request)


async def change(request: Request) -> Response:
    """``POST /incidents/{number}``: the next state, or a remark, with person and reason."""
    number = request.path_params["number"]
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    try:
        form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise RequestRejected("the form has too many fields", "send it from the page") from error
    try:
        await asyncio.to_thread(_change, server_state(request).store, number, form, _key_owner(request))
    except (InputError, Conflict) as error:
        return await _incident(request, form, error)
    return RedirectResponse(url(f"/incidents/{number}", done=form["do"]), status_code=303)


async def postmortem(request: Request) -> Response:
    """``GET /incidents/{number}/postmortem.md``: the draft of the postmortem."""
    store, number = server_state(request).store, request.path_params["number"]

    def made() -> str:
        return draft_postmortem(store, incident(store, number), policy_in(store.home)[0], time.time())

    text = await asyncio.to_thread(made)
    headers = {"content-disposition": f'attachment; filename="incident-{number}.md"'}
    return Response(text, media_type="text/markdown; charset=utf-8", headers=headers)


def _change(store: Store, number: int, form: dict[str, str], owner: str) -> None:
    step, why = form.get("do", ""), form.get("why", "")
    who = owner or form.get("who", "")  # who has a key cannot act in another name
    if step == "note":
        note(store, number, why, person_name(who))
        return
    if step not in [state.value for state in STEPS]:
        raise RequestRejected(f"the form asks for {step[:40]!r}", "send it from the page")
    generation = form.get("generation", "")
    expected = int(generation) if generation.isascii() and generation.isdigit() and len(generation) < 10 else None
    transition(store, number, IncidentState(step), person_name(who), why, expected)


async def _incident(
    request: Request, form: dict[str, str] | None = None, error: ClerestoryError | None = None
) -> Response:
    store, number = server_state(request).store, request.path_params["number"]

    def read() -> dict[str, object]:
        each, now = incident(store, number), time.time()
        policy, folder = policy_in(store.home)
        name = each.runbook or policy.rule(each).runbook
        impact = impact_of(store, each, now)
        return {
            "each": each,
            "label": STATES[each.state],
            "times": response_times(each),
            "opened": iso(each.opened),
            "last_seen": iso(each.last_seen),
            "cleared": iso(since) if (since := cleared_since(each)) and not each.is_resolved else "",
            "impact": impact,
            "steps": [(state.value, STEPS[state]) for state in NEXT_STATES[each.state]],
            "timeline": [
                (entry, iso(entry.at), event_words(entry.kind)) for entry in reversed(timeline(store, number))
            ],
            "clocks": [
                (clock, clock_words(clock, now), iso(clock.due), clock.left_s(now) < 0) for clock in policy.clocks(each)
            ],
            "runbook": runbook_blocks(runbook(name, folder)) if name else [],
            "muted": [(quiet, iso(quiet.until)) for quiet in silences(store) if quiet.mutes(each, now)],
            "release": _release(each),
        }

    context = {
        **await asyncio.to_thread(read),
        "form": form or {},
        "error": error,
        "done": request.query_params.get("done", ""),
        "who": _key_owner(request) or current_user(),
        "is_named": bool(_key_owner(request)),
    }
    return page(request, "incident.html", context, status_of(error)[0] if error else 200)


def _key_owner(request: Request) -> str:
    """The label of the API key of the sender; empty where no keys are needed."""
    key = admitted_key(request)
    return key.label if key is not None else ""


def _release(each: Incident) -> tuple[str, int] | None:
    """The release that an incident is about, for a link."""
    name, at, number = each.subject.partition("@")
    return (name, int(number)) if at and name and number.isascii() and number.isdigit() and len(number) < 10 else None


def event_words(kind: str) -> str:
    """The kind of a journal record of an incident, in words."""
    return kind.removeprefix("incident_").replace("_", " ")


def iso(at: float) -> str:
    """A time in seconds since the epoch as ISO 8601 (UTC)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
