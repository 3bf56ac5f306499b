"""Drift in words: alarms, the budget of false alarms, and the page of a replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from clerestory.apps.drift_sources import DriftSource, Read
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.units import plural
from clerestory.report.drift_page import (
    AlarmSheet,
    DriftImage,
    DriftPair,
    DriftReportPage,
    MonitorRow,
    evidence_chart,
)
from clerestory.report.thumbnails import thumbnail
from clerestory.stages.watch.drift.alarms import CarryingObservation, DriftAlarm
from clerestory.stages.watch.drift.episodes import DriftEpisode
from clerestory.stages.watch.drift.log import describe_left_out
from clerestory.stages.watch.drift.monitors import DriftPoint, MonitorState
from clerestory.stages.watch.drift.observations import ALL, EMBEDDING
from clerestory.stages.watch.drift.replay import DriftReplay
from clerestory.stats.drift import DriftDetector

MAX_THUMBNAIL_BYTES = 12_000
NAMES = {
    EMBEDDING: "What the images and texts show (embeddings)",
    "brightness": "Brightness",
    "width": "Width in pixels",
    "height": "Height in pixels",
    "pixels": "Size in pixels",
    "characters": "Length of texts",
    "confidence": "Confidence of the answers",
    "label": "Predicted labels",
    "language": "Language of the texts",
    "zero_match": "Searches without a result",
}


def day(at: float | None) -> str:
    """A time as ``2026-11-03``, with the hour if it has one; empty for None."""
    if at is None:
        return ""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%d" if at % 86_400 == 0 else "%Y-%m-%d %H:%M")


def monitor_name(monitor: str, slice: str = ALL) -> str:
    """A monitor for people, with its slice unless it is all traffic."""
    name = NAMES.get(monitor, monitor)
    return name if slice == ALL else f"{name}, {slice}"


def alarm_title(alarm: DriftAlarm) -> str:
    """One line: which monitor, when."""
    when = f"on {day(alarm.at)}" if alarm.at is not None else f"in window {alarm.window:,}"
    return f"{monitor_name(alarm.monitor, alarm.slice)}: alarm {when}"


def alarm_sentences(alarm: DriftAlarm) -> tuple[str, ...]:
    """What changed and since when."""
    change = alarm.change
    if change.kind == "embedding":
        what = (
            f"{change.recent:.0%} of what arrived since then is more unusual than {1 - change.reference:.0%} of the"
            " reference."
        )
    elif change.kind == "number":
        what = f"The median went from {change.reference:.3g} in the reference to {change.recent:.3g}."
    else:
        value = repr(change.value) if change.value else "no value"
        what = f"The share of {value} went from {change.reference:.0%} in the reference to {change.recent:.0%}."
    since = day(alarm.began) or f"window {alarm.began_window:,}"
    windows = alarm.window - alarm.began_window + 1
    return (
        f"The change probably began {'on' if alarm.began is not None else 'in'} {since} and was detected"
        f" {plural(windows, 'window')} later.",
        what,
    )


def episode_sentence(episode: DriftEpisode) -> str:
    """From when to when a shift lasted."""
    alarm = episode.alarm
    began = day(alarm.began) or f"window {alarm.began_window:,}"
    found = day(alarm.at) or f"window {alarm.window:,}"
    if episode.until_window is None:
        end = "still there at the end of the history"
    else:
        end = f"until about {day(episode.until) or f'window {episode.until_window:,}'}"
    return f"From about {began}, detected {found}, {end}."


def _end_sentence(episode: DriftEpisode) -> str:
    if episode.until_window is None:
        return "It is still there at the end of the history."
    end = day(episode.until) or f"window {episode.until_window:,}"
    return f"It was over after about {end}; from then on the monitor watched again."


def budget_sentences(
    windows_per_alarm: float, window: int, windows_per_day: float, per_year: float, num_monitors: int, has_times: bool
) -> tuple[str, ...]:
    """The promise about false alarms, with the traffic that it assumes."""
    total = windows_per_alarm / num_monitors
    sharing = f", shared by {plural(num_monitors, 'monitor')}" if num_monitors > 1 else ""
    alarms = "one false alarm" if per_year == 1 else f"{per_year:,g} false alarms"
    if not has_times:
        first = f"At most one false alarm in {total:,.0f} windows of {window} is expected{sharing}."
    elif not windows_per_day > 0:  # also NaN: nothing has arrived, or one observation
        first = f"At most {alarms} a year is expected{sharing}, whatever the traffic is."
    else:
        expected = windows_per_day * 365.25 / total
        strict = ""
        if expected < 0.95 * per_year:
            rate = f"one in {1 / expected:,.1f} years" if expected < 1 else f"{expected:,.2f} a year"
            strict = f" With so few windows a year the limit is stricter: {rate}."
        first = (
            f"At most {alarms} a year is expected{sharing}. At {_rate(windows_per_day * window)} observations a day, in"
            f" windows of {window}, that is one in {total:,.0f} windows on average.{strict}"
        )
    return (
        first,
        "This is a bound on the expected number for any kind of data, provided that windows are independent of one"
        " another and that the reference is what traffic without drift looks like.",
    )


def _rate(per_day: float) -> str:
    return f"{per_day:,.0f}" if per_day >= 10 else f"{per_day:.2g}"


def reuse_sentence(monitors: Sequence[MonitorState]) -> str:
    """Whether the held-out part of a reference was used up; empty if not."""
    used = [each for each in monitors if each.detector.num_windows > each.detector.num_fresh_windows]
    if not used:
        return ""
    fresh = min(each.detector.num_fresh_windows for each in used)
    return (
        f"After {plural(fresh, 'window')} the held-out part of the reference was used again: from then on the bound is"
        " approximate, and differences within the sampling error of the reference are not reported. A larger"
        " reference makes it exact for longer."
    )


def levels(points: Sequence[DriftPoint]) -> list[float]:
    """The evidence on a logarithmic scale, from 0 without any to 1 at an alarm."""
    return [
        1 + math.log(max(point.evidence, point.spend)) / max(1e-9, -math.log(point.spend)) if point.spend < 1 else 0.0
        for point in points
    ]


def monitor_words(detector: DriftDetector, points: Sequence[DriftPoint]) -> tuple[str, str]:
    """The state of a badge and the words."""
    if detector.latched:
        return "no", "alarm"
    if not points:
        return "plain", "no full window yet"
    level = levels(points)[-1]
    return ("unsure", f"evidence is rising ({level:.0%} of the way)") if level > 0.5 else ("yes", "no drift")


def replayed_words(monitor: MonitorState) -> tuple[str, str]:
    """The state of a badge and the words for a monitor of a replay, which has gone on after its alarms."""
    if monitor.episodes and not monitor.detector.latched:
        return "no", f"{plural(len(monitor.episodes), 'alarm')}, over at the end"
    return monitor_words(monitor.detector, monitor.points)


def chart_of(name: str, monitor: str, points: Sequence[DriftPoint], alarm: int | None = None) -> Any:
    """The evidence of a monitor as a drawing."""
    shown = levels(points)
    if points and points[0].at is not None:
        ends = day(points[0].at), day(points[-1].at)
    else:
        ends = f"window {points[0].window:,}" if points else "", f"window {points[-1].window:,}" if points else ""
    place = next((i for i, point in enumerate(points) if point.window == alarm), None)
    desc = f"{plural(len(points), 'window')}; the highest evidence is {max(shown, default=0.0):.0%} of an alarm."
    return evidence_chart(name, f"Evidence of drift: {monitor}", desc, shown, ends, place)


def alarm_sheet(
    alarm: DriftAlarm,
    anchor: str,
    points: Sequence[DriftPoint],
    live: Callable[[str], str],
    reference: Callable[[str], str],
    episode: DriftEpisode,
    number: int,
) -> AlarmSheet:
    """An alarm with its images; ``live`` and ``reference`` give the thumbnail of an id, empty without one."""
    return AlarmSheet(
        anchor,
        f"Alarm {number}, {day(alarm.at) or f'window {alarm.window:,}'}: {monitor_name(alarm.monitor, alarm.slice)}",
        (*alarm_sentences(alarm), _end_sentence(episode)),
        chart_of(anchor, monitor_name(alarm.monitor, alarm.slice), points, alarm.window),
        tuple(_pair(each, live, reference) for each in alarm.observations),
    )


def replay_page(replay: DriftReplay, traffic: DriftSource, reference: DriftSource) -> DriftReportPage:
    """The page of a replay, with thumbnails where images can be read."""
    live, known = _Thumbnails(traffic.read), _Thumbnails(reference.read)
    points = {(each.monitor, each.slice): tuple(each.points) for each in replay.monitors.monitors}
    alarms = tuple(
        alarm_sheet(
            alarm, f"alarm-{i + 1}", points[alarm.monitor, alarm.slice], live, known, replay.episode_of(alarm), i + 1
        )
        for i, alarm in enumerate(replay.alarms)
    )
    state, title, lines = replay_answer(replay)
    rows = []
    for i, each in enumerate(replay.monitors.monitors):
        state_of, words = replayed_words(each)
        chart = chart_of(f"monitor-{i}", monitor_name(each.monitor, each.slice), each.points)
        shown = "" if each.slice == ALL else each.slice
        counted = plural(each.detector.num_windows, "window")
        rows.append(MonitorRow(monitor_name(each.monitor), shown, state_of, words, counted, chart))
    return DriftReportPage(
        traffic.table.name,
        state,
        title,
        lines,
        replay_budget(replay),
        alarms,
        tuple(rows),
        tuple(replay_facts(replay).items()),
        tuple(replay_notes(replay)),
    )


def replay_answer(replay: DriftReplay) -> tuple[str, str, tuple[str, ...]]:
    """The state, the title and sentences of a result."""
    counted = plural(replay.num_windows, "window")
    if replay.alarms:
        first = replay.alarms[0]
        when = (
            f"on {day(first.at)}" if first.at is not None else f"in window {first.window:,} of {replay.num_windows:,}"
        )
        more = f"; {plural(len(replay.alarms), 'alarm')} in all" if len(replay.alarms) > 1 else ""
        return "no", f"Drift: the first alarm is {when}{more}", alarm_sentences(first)
    if replay.is_undecided:
        window = replay.monitors.settings.window
        needed = replay.min_windows * window
        rate = replay.windows_per_day
        days = f", which is {_duration(replay.min_windows / rate)} of this traffic" if rate > 0 else ""
        return (
            "unsure",
            f"Too little data: {plural(len(replay.traffic), 'observation')}",
            (
                f"With this budget of false alarms even the largest change is found only after"
                f" {plural(needed, 'observation')} ({plural(replay.min_windows, 'window')} of {window}){days}. Use more"
                " data, smaller windows (--window) or a larger budget (--max-false-alarms-per-year).",
            ),
        )
    lines = ("What arrived is like the reference, as far as these monitors can tell.",)
    if (same := replay.num_in_reference) * 2 > len(replay.traffic):
        lines = (
            f"{same:,} of the {len(replay.traffic):,} observations are the reference itself: compare with others.",
        )
    return "yes", f"No drift in {counted}", lines


def replay_budget(replay: DriftReplay) -> tuple[str, ...]:
    """The promise of a replay about false alarms."""
    settings, monitors = replay.monitors.settings, replay.monitors.monitors
    sentences = budget_sentences(
        replay.windows_per_alarm,
        settings.window,
        replay.windows_per_day,
        settings.max_false_alarms_per_year,
        len(monitors),
        replay.traffic.times is not None,
    )
    reuse = reuse_sentence(monitors)
    return (*sentences, reuse) if reuse else sentences


def replay_facts(replay: DriftReplay) -> dict[str, str]:
    """The sources, their times, the windows."""
    traffic, reference = replay.traffic, replay.monitors.reference
    facts = {"traffic": f"{traffic.name}: {plural(len(traffic), 'observation')}"}
    if traffic.times is not None and len(traffic):
        facts["from – to"] = f"{day(float(traffic.times[0]))} – {day(float(traffic.times[-1]))}"
    facts["reference"] = f"{reference.name}: {plural(len(reference), 'observation')}"
    for side, table in (("traffic", traffic), ("reference", reference)):
        for name, value in table.identity.items():
            if value and name != "split":
                facts[f"digest of the {side}'s {name}"] = short(value)
    pending = replay.monitors.num_pending
    facts["windows"] = f"{replay.num_windows:,} of {replay.monitors.settings.window} observations"
    if pending:
        facts["in no window"] = f"{plural(pending, 'observation')} at the end"
    return facts


def replay_notes(replay: DriftReplay) -> list[str]:
    """Left-out observations and unwatched columns, in sentences."""
    reference = replay.monitors.reference
    notes = [*replay.traffic.notes, *describe_left_out(dict(replay.traffic.left_out))]
    notes += describe_left_out(dict(replay.monitors.left_out))
    notes += [f"reference: {line}" for line in (*reference.notes, *describe_left_out(dict(reference.left_out)))]
    notes += [f"{name} is not watched: {reason}" for name, reason in sorted(replay.monitors.unwatched.items())]
    if same := replay.num_in_reference:
        notes.append(
            f"{plural(same, 'observation')} of the traffic, the same in the reference: no drift can be seen there"
        )
    if not any(replay.traffic.subjects):
        notes.append("no observation names a person or session, so each one counts")
    return notes


def replay_json(replay: DriftReplay) -> dict[str, Any]:
    """The result for programs."""
    return {
        "drift": bool(replay.alarms),
        "decided": not replay.is_undecided,
        "windows": replay.num_windows,
        "windows_per_day": replay.windows_per_day if math.isfinite(replay.windows_per_day) else None,
        "windows_per_false_alarm": replay.windows_per_alarm,
        "min_windows": replay.min_windows,
        "budget": list(replay_budget(replay)),
        "facts": replay_facts(replay),
        "notes": replay_notes(replay),
        "left_out": {**replay.traffic.left_out, **replay.monitors.left_out},
        "alarms": [
            {**encode(alarm), "date": day(alarm.at), "began_date": day(alarm.began), **_end(replay, alarm)}
            for alarm in replay.alarms
        ],
        "monitors": [
            {
                "monitor": each.monitor,
                "slice": each.slice,
                "windows": each.detector.num_windows,
                "alarm": bool(each.episodes),
                "evidence": each.detector.evidence,
                "points": [[point.window, point.at, point.evidence] for point in each.points],
            }
            for each in replay.monitors.monitors
        ],
    }


def _end(replay: DriftReplay, alarm: DriftAlarm) -> dict[str, Any]:
    episode = replay.episode_of(alarm)
    return {"until_window": episode.until_window, "until": episode.until}


def _duration(days: float) -> str:
    """Days for people, such as ``about 3 hours``."""
    if days < 1 / 24:
        return "less than an hour"
    return f"about {plural(round(days * 24), 'hour')}" if days < 2 else f"about {plural(round(days), 'day')}"


class _Thumbnails:
    """Thumbnails by id, each made once."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._made: dict[str, str] = {}

    def __call__(self, id: str) -> str:
        if id not in self._made:
            made = thumbnail(lambda: self._read(id), MAX_THUMBNAIL_BYTES)
            self._made[id] = made.uri if made else ""
        return self._made[id]


def _pair(each: CarryingObservation, live: Callable[[str], str], reference: Callable[[str], str]) -> DriftPair:
    nearest = tuple(DriftImage(one.id, reference(one.id), f"similarity {one.similarity:.2f}") for one in each.nearest)
    return DriftPair(DriftImage(each.id, live(each.id), day(each.at)), nearest)
