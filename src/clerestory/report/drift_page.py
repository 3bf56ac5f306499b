"""The page of a replayed history: the answer, each alarm with its images, every monitor, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clerestory.report.render import fill
from clerestory.report.svg.canvas import AxisScale, SvgCanvas
from clerestory.report.svg.charts import WIDTH

MAX_DRAWN = 600  # points of a curve
AXIS = 26.0  # below the drawing, for its labels


@dataclass(frozen=True, slots=True)
class DriftImage:
    """One image of the page.

    Attributes:
        name: its id.
        thumbnail: a data URI or a URL; empty if the image cannot be shown.
        note: its date or similarity, in words.
    """

    name: str
    thumbnail: str
    note: str


@dataclass(frozen=True, slots=True)
class DriftPair:
    """A live image beside the most similar images of the reference."""

    live: DriftImage
    nearest: tuple[DriftImage, ...]


@dataclass(frozen=True, slots=True)
class AlarmSheet:
    """An alarm as the page shows it.

    Attributes:
        anchor: unique on the page.
        title: which monitor, and when.
        sentences: what changed, since when, and how it compares with the budget.
        chart: the evidence over the windows.
        pairs: images that carry the alarm, beside their nearest references.
        url: its page in the server; empty in a report.
    """

    anchor: str
    title: str
    sentences: tuple[str, ...]
    chart: Markup
    pairs: tuple[DriftPair, ...]
    url: str = ""


@dataclass(frozen=True, slots=True)
class MonitorRow:
    """One monitor in the table: its state as a badge has it, and the words."""

    name: str
    slice: str
    state: str
    words: str
    windows: str
    chart: Markup


@dataclass(frozen=True, slots=True)
class DriftReportPage:
    """Everything that the page shows.

    Attributes:
        subject: what was watched.
        state: ``yes``, ``no`` or ``unsure``, as a badge has it.
        title: the answer.
        lines: what it means, in sentences.
        budget: what the promise about false alarms is, in sentences.
        alarms: the first one first.
        monitors: all of them.
        facts: pairs of a name and a value.
        notes: what was left out or is not watched, in sentences.
    """

    subject: str
    state: str
    title: str
    lines: tuple[str, ...]
    budget: tuple[str, ...]
    alarms: tuple[AlarmSheet, ...]
    monitors: tuple[MonitorRow, ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def render_drift(page: DriftReportPage) -> bytes:
    """One self-contained HTML file without scripts."""
    return fill("drift.html", page=page).encode()


def evidence_chart(
    name: str, title: str, desc: str, levels: Sequence[float], labels: tuple[str, str], alarm: int | None = None
) -> Markup:
    """The way of the evidence to an alarm, window by window.

    Args:
        name: unique on the page.
        title: for people who do not see it.
        desc: what it shows, in words with the numbers.
        levels: of each window, on a logarithmic scale, from 0 without any to 1 at an alarm.
        labels: of the first and of the last window.
        alarm: the place of the window that raised an alarm.
    """
    height, left, right, top = 180.0, 46.0, 12.0, 14.0
    bottom = height - AXIS
    drawing = SvgCanvas(name, WIDTH, height, title, desc)
    up = AxisScale(0.0, 1.15, bottom, top)
    across = AxisScale(0.0, max(1.0, len(levels) - 1.0), left, WIDTH - right)
    drawing.line(left, up(0.0), WIDTH - right, up(0.0), "axis")
    drawing.line(left, up(1.0), WIDTH - right, up(1.0), "mark")
    drawing.text(left - 6, up(1.0) + 4, "alarm", "t soft scale", "end")
    drawing.text(left - 6, up(0.0) + 4, "none", "t soft scale", "end")
    kept = range(0, len(levels), max(1, len(levels) // MAX_DRAWN))
    drawing.path([(across(i), up(min(1.1, max(0.0, levels[i])))) for i in kept], "curve main")
    if alarm is not None and alarm < len(levels):
        drawing.dot(across(alarm), up(min(1.1, levels[alarm])), 4.5, "point main")
    drawing.text(left, bottom + 18, labels[0], "t soft scale")
    drawing.text(WIDTH - right, bottom + 18, labels[1], "t soft scale", "end")
    return drawing.render()
