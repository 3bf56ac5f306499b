"""``/drift``: what the drift monitors of the servers have seen, with the images of each alarm beside the reference."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from clerestory.apps.datasets import view_dataset
from clerestory.apps.drift_report import chart_of, day, levels, monitor_name
from clerestory.core.digest import short
from clerestory.core.errors import NotFound, UploadError
from clerestory.core.sample import Dataset
from clerestory.data.images import decode_image
from clerestory.stages.watch.drift.log import describe_left_out
from clerestory.stages.watch.drift.monitors import DriftPoint
from clerestory.stages.watch.drift.observations import ALL
from clerestory.store import Store
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.monitor_states import RESET, SUMMARY, MonitorRecord, read_monitors
from clerestory.web.images import SHORT_LIVED, image_response, thumbnail
from clerestory.web.state import server_state
from clerestory.web.views import page


@dataclass(frozen=True, slots=True)
class MonitorView:
    """One monitor: its name, its state as a badge has it, how far it is, and its chart."""

    name: str
    slice: str
    tone: str
    words: str
    windows: int
    chart: Markup


@dataclass(frozen=True, slots=True)
class ServerDriftView:
    """One server's monitors of one model name.

    Attributes:
        name: of the model.
        server: its id.
        tone, answer: the state as a badge has it, and one sentence.
        monitors: the monitors, those with an alarm first.
        alarms: what ``LiveDriftMonitor`` recorded, the newest first.
        budget: the promise about false alarms, in sentences.
        facts: pairs of a name and a value.
        notes: sentences about what was left out or is not watched.
    """

    name: str
    server: str
    tone: str
    answer: str
    monitors: tuple[MonitorView, ...]
    alarms: tuple[dict[str, Any], ...]
    budget: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


async def drift_page(request: Request) -> Response:
    """``GET /drift``: every model name that is watched."""
    server = server_state(request)
    views = await asyncio.to_thread(drift_views, server.store)
    problem = server.drift.problem if server.drift is not None else "drift detection is off (drift.enabled)"
    return page(request, "drift.html", {"views": views, "name": "", "problem": problem, "serving": server.name})


async def model_drift_page(request: Request) -> Response:
    """``GET /drift/{name}``: the monitors of one model name, with charts and alarms."""
    server, name = server_state(request), request.path_params["name"]
    views = await asyncio.to_thread(drift_views, server.store, name)
    if not views:
        raise NotFound(f"no server has watched {name!r} for drift", "open /drift")
    return page(request, "drift.html", {"views": views, "name": name, "problem": "", "serving": server.name})


async def alarm_page(request: Request) -> Response:
    """``GET /drift/{name}/{alarm}``: one alarm with the images that carry it."""
    store, name = server_state(request).store, request.path_params["name"]
    views = await asyncio.to_thread(drift_views, store, name)
    wanted = request.path_params["alarm"]
    for view in views:
        for alarm in view.alarms:
            if alarm["id"] == wanted:
                kept = KeptImages(store.files)
                shown = {each["id"] for each in alarm["observations"] if kept.has(each["id"])}
                values = {"view": view, "alarm": alarm, "kept": shown, "day": day, "address": address}
                return page(request, "drift_alarm.html", values)
    raise NotFound("this alarm is not stored any more", f"open /drift/{name}")


async def reference_image(request: Request) -> Response:
    """``GET /drift/reference/{data}/{digest}/{sample}``: a small copy of an image of the reference."""
    store, values = server_state(request).store, request.path_params
    content = await asyncio.to_thread(_reference, store, values["data"], values["digest"], values["sample"])
    return image_response(content, {"cache-control": SHORT_LIVED})


async def kept_image(request: Request) -> Response:
    """``GET /drift/image/{response}``: a live image that the settings allowed to keep."""
    content = await asyncio.to_thread(
        _kept, KeptImages(server_state(request).store.files), request.path_params["response"]
    )
    return image_response(content, {"cache-control": "no-store"})


def drift_views(store: Store, name: str = "") -> list[ServerDriftView]:
    """What every server has seen, of one model name or of all, those with an alarm first."""
    rows = read_monitors(store.database, name)
    views = [_view(row, rows) for row in rows if row.monitor == SUMMARY]
    return sorted(views, key=lambda view: (view.tone != "no", view.name, view.server))


def address(name: str, alarm: str = "") -> str:
    """The URL of a model name's drift, or of one alarm."""
    return f"/drift/{quote(name, safe='')}" + (f"/{alarm}" if alarm else "")


def _view(summary: MonitorRecord, rows: list[MonitorRecord]) -> ServerDriftView:
    body = summary.body
    own = [r for r in rows if (r.name, r.server) == (summary.name, summary.server) and not r.monitor.startswith("#")]
    monitors = [_monitor(i, row) for i, row in enumerate(own)]
    alarmed = [each for each in monitors if each.tone == "no"]
    windows = int(body["windows"])
    if alarmed:
        tone, answer = "no", f"Drift: {len(alarmed)} of {len(monitors)} monitors have an alarm"
    elif windows:
        tone, answer = "yes", f"No drift in {windows:,} windows"
    else:
        waiting = f"{body['pending']:,} of {body['settings']['window']:,} pictures of the first window have arrived"
        tone, answer = "unsure", f"Nothing was compared yet: {waiting}"
    reference = body["reference"]
    facts = [
        ("reference", f"{body['reference_name']} ({body['reference_size']:,} pictures, {short(reference['digest'])})"),
        ("chosen by", reference["who"] or "nobody; it is the data of the newest evaluation"),
        ("watched since", day(round(body["since"]))),
        ("pictures", f"{body['observed']:,}, of which {sum(body['left_out'].values()):,} were left out"),
        ("model", short(body["model"])),
        ("server", summary.server),
        ("last change", day(round(summary.updated))),
    ]
    notes = [*body["notes"], *describe_left_out(body["left_out"])]
    if body["dropped"]:
        notes.append(f"{body['dropped']:,} pictures were not compared because the queue was full")
    notes += [f"{what} is not watched: {why}" for what, why in sorted(body["unwatched"].items())]
    reset = next((r for r in rows if r.name == summary.name and r.monitor == RESET), None)
    if reset is not None:
        notes.append(f"last reset by {reset.body['who']} on {day(round(reset.updated))}: {reset.body['why']}")
    return ServerDriftView(
        summary.name,
        summary.server,
        tone,
        answer,
        tuple(sorted(monitors, key=lambda each: each.tone != "no")),
        tuple(body["alarms"]),
        tuple(body["budget"]),
        tuple(facts),
        tuple(notes),
    )


def _monitor(number: int, row: MonitorRecord) -> MonitorView:
    points = [DriftPoint(*point) for point in row.body["points"]]
    level = levels(points)[-1] if points else 0.0
    if row.body["alarm"]:
        tone, words = "no", "alarm"
    elif not points:
        tone, words = "soft", "no full window yet"
    elif level > 0.5:
        tone, words = "unsure", f"evidence is rising: {level:.0%} of the way to an alarm"
    else:
        tone, words = "yes", "no drift"
    chart = chart_of(f"chart-{row.server}-{number}", monitor_name(row.monitor, row.slice), points)
    shown = "" if row.slice == ALL else row.slice
    return MonitorView(monitor_name(row.monitor), shown, tone, words, int(row.body["windows"]), chart)


@lru_cache(maxsize=2)
def _dataset(store: Store, name: str, digest: str) -> Dataset:
    data = view_dataset(store, name)
    if data.digest != digest:
        raise NotFound(f"the dataset {name!r} has changed since the alarm", "choose the reference again")
    return data


def _reference(store: Store, name: str, digest: str, sample: str) -> bytes:
    if not any((row.name, row.digest) == (name, digest) for row in store.datasets()):
        raise NotFound(f"there is no dataset {name!r} of this digest", "open /data")
    data = _dataset(store, name, digest)
    try:
        return thumbnail(decode_image(data.read(data[sample])))
    except UploadError as error:
        raise NotFound(f"the picture {sample!r} cannot be shown: {error.message}", error.fix) from None


def _kept(images: KeptImages, response: str) -> bytes:
    content = images.read(response)
    if content is None:
        raise NotFound("this picture was not kept, or has been erased", "open the alarm again")
    return thumbnail(decode_image(content))
