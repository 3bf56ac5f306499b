"""The drift monitors of the servers, as ``clerestory watch drift`` shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table

from clerestory.apps.drift_reference import ReferenceChoice, open_reference
from clerestory.apps.drift_report import day, levels, monitor_name
from clerestory.apps.loading import open_stored
from clerestory.core.errors import ClerestoryError
from clerestory.models import Embedder
from clerestory.stages.watch.drift.monitors import DriftPoint
from clerestory.stages.watch.drift.observations import EMBEDDING
from clerestory.stages.watch.drift.replay import windows_to_detect
from clerestory.stages.watch.drift.settings import DriftSettings
from clerestory.store.operations.monitor_states import SUMMARY, MonitorRecord, read_monitors

if TYPE_CHECKING:
    from clerestory.cli.output import Common
    from clerestory.store import Store

SHIFT = 0.5  # standard deviations


def show_monitors(store: Store, name: str, common: Common) -> int:
    """Print the state of every monitor; 1 if one of them has an alarm."""
    rows = read_monitors(store.database, name)
    summaries = [row for row in rows if row.monitor == SUMMARY]
    if not summaries:
        common.out.result([], "no server has watched for drift yet")
        common.out.next("clerestory watch drift --replay images/ --until 2026-03-01 --out drift.html")
        return 0
    shown: list[str | Table] = []
    data = []
    for summary in summaries:
        own = [r for r in rows if (r.name, r.server) == (summary.name, summary.server) and r.monitor[0] != "#"]
        delay = _delay(store, summary, own)
        shown += _lines(summary, own, delay)
        data.append(
            {
                "name": summary.name,
                "server": summary.server,
                "windows_to_detect_half_sigma": delay if math.isfinite(delay) else None,
                **summary.body,
                "monitors": [{"monitor": row.monitor, "slice": row.slice, **_without_points(row.body)} for row in own],
            }
        )
    common.out.result(data, *shown)
    return int(any(row.body.get("alarm") for row in rows))


def _lines(summary: MonitorRecord, own: list[MonitorRecord], delay: float) -> list[str | Table]:
    body = summary.body
    reference = body["reference"]
    table = Table("monitor", "slice", "windows", "state", box=None)
    for row in own:
        points = [DriftPoint(*point) for point in row.body["points"]]
        far = f"{max(0.0, levels(points)[-1]):.0%} of the way to an alarm" if points else "no full window yet"
        state = "alarm" if row.body["alarm"] else far
        table.add_row(monitor_name(row.monitor), row.slice, f"{row.body['windows']:,}", state)
    left_out = sum(body["left_out"].values())
    lines: list[str | Table] = [
        f"{summary.name} on {summary.server}, since {day(round(body['since']))}",
        f"reference  {body['reference_name']}: {body['reference_size']:,} images, {reference['digest'][:12]}",
        f"traffic    {body['observed']:,} images ({left_out:,} left out), {body['windows']:,} windows of"
        f" {body['settings']['window']}, {body['pending']} images wait for the next window",
        table,
        *body["budget"],
    ]
    if math.isfinite(delay):
        rate = body["windows_per_day"]
        time = f", {delay / rate:,.1f} days at this traffic" if rate else ""
        lines.append(f"A shift of {SHIFT:g} σ would be found after about {delay:.0f} windows{time}.")
    elif math.isinf(delay):
        lines.append(f"A shift of {SHIFT:g} σ would not be found with this reference; a larger one helps.")
    lines += [f"alarm  {alarm['title']}. {' '.join(alarm['sentences'])}" for alarm in body["alarms"]]
    lines += [f"note: {line}" for line in body["notes"]]
    lines += [f"note: {what} is not watched: {why}" for what, why in sorted(body["unwatched"].items())]
    return [*lines, ""]


def _delay(store: Store, summary: MonitorRecord, own: list[MonitorRecord]) -> float:
    """The windows until a shift of half a standard deviation is found, simulated; NaN if that is not possible."""
    spend = next((float(row.body["spend"]) for row in own if row.monitor == EMBEDDING), 0.0)
    if not spend:
        return float("nan")
    try:
        model = open_stored(store, summary.body["model"])
        if not isinstance(model, Embedder):
            return float("nan")
        choice = ReferenceChoice(**summary.body["reference"])
        reference = open_reference(store, choice, model).table
    except ClerestoryError:  # a model from elsewhere, or data that are gone
        return float("nan")
    settings: dict[str, Any] = summary.body["settings"]
    return windows_to_detect(reference, DriftSettings(window=settings["window"]), spend, SHIFT)


def _without_points(body: Any) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "points"}
