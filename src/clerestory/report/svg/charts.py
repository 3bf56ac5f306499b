"""Charts: plain data in, one SVG out. Axes of shares and latencies start at zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clerestory.report.svg.canvas import AxisScale, SvgCanvas, ceiling, shorten, tick_text, ticks

WIDTH = 360.0  # one panel; narrow, so that a phone shows the same letters as a desktop
ROW, HEADING, AXIS, TOP = 26.0, 28.0, 34.0, 6.0
LABEL, GAP = 120.0, 12.0
# Generous widths of one character in units, so that a label never leaves the view box.
CHARACTER = 6.9


@dataclass(frozen=True, slots=True)
class ChartRow:
    """One row of a whisker or bar plot.

    Attributes:
        label: its name.
        value: the position of the mark.
        low, high: ends of its interval, None when it has none.
        text: the number in words at the end of the row.
        chance: the chance level, None when not known.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    text: str
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class ChartGroup:
    """Rows under one heading; an empty heading takes no space."""

    heading: str
    rows: tuple[ChartRow, ...]


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One curve: its name, its (x, y) points, and its style (``main`` or ``part1``, ``part2`` …)."""

    label: str
    points: tuple[tuple[float, float], ...]
    look: str = "main"


def top_of(groups: Sequence[ChartGroup], at_most: float | None = None) -> float:
    """The end of a common axis from zero that shows every value, interval and chance level."""
    ends = [end for group in groups for m in group.rows for end in (m.value, m.high, m.chance) if end is not None]
    top = ceiling(max(ends, default=1.0))
    return top if at_most is None else min(top, at_most)


def whiskers(
    name: str, title: str, desc: str, groups: Sequence[ChartGroup], top: float, axis: str = "", bars: bool = False
) -> Markup:
    """Dots (or bars from zero) with their intervals, one row each, and a hollow tick at the chance level."""
    marks = [m for g in groups for m in g.rows]
    headings = sum(bool(g.heading) for g in groups)
    foot = AXIS + (14 if axis else 0)
    height = TOP + headings * HEADING + len(marks) * ROW + foot
    drawing = SvgCanvas(name, WIDTH, height, title, desc)
    labels = min(LABEL, max(len(m.label) for m in marks) * CHARACTER)
    values = max(len(m.text) for m in marks) * CHARACTER
    scale = AxisScale(0.0, top, labels + GAP, WIDTH - values - GAP)
    y = TOP
    for group in groups:
        if group.heading:
            drawing.text(0, y + 19, shorten(group.heading, int(WIDTH / CHARACTER)), "t strong")
            y += HEADING
        _grid(drawing, scale, y, y + ROW * len(group.rows))
        for mark in group.rows:
            _row(drawing, scale, mark, y + ROW / 2, bars)
            y += ROW
    _scale(drawing, scale, y, axis)
    return drawing.render()


def _row(drawing: SvgCanvas, scale: AxisScale, mark: ChartRow, y: float, bars: bool) -> None:
    words = shorten(mark.label, int((scale.start - GAP) / CHARACTER + 0.01))
    drawing.text(scale.start - GAP + 4, y + 4.5, words, "t", "end")
    if bars:
        drawing.bar(scale.start, y - 7, scale(mark.value) - scale.start, 14, "bar", 2)
    if mark.chance is not None:
        drawing.line(scale(mark.chance), y - 9, scale(mark.chance), y + 9, "chance")
    if mark.low is not None and mark.high is not None:
        low, high = scale(mark.low), scale(mark.high)
        drawing.line(low, y, high, y, "whisker")
        for end in (low, high):
            drawing.line(end, y - 4.5, end, y + 4.5, "whisker")
    if not bars:
        drawing.dot(scale(mark.value), y, 4.5, "dot")
    drawing.text(WIDTH, y + 4.5, mark.text, "t num", "end")


def _grid(drawing: SvgCanvas, scale: AxisScale, top: float, bottom: float) -> None:
    for value in ticks(scale.low, scale.high):
        drawing.line(scale(value), top, scale(value), bottom, "axis" if value == scale.low else "grid")


def _scale(drawing: SvgCanvas, scale: AxisScale, bottom: float, axis: str) -> None:
    for value in ticks(scale.low, scale.high):
        drawing.text(scale(value), bottom + 16, tick_text(value), "t soft scale", "middle")
    if axis:
        half = len(axis) * CHARACTER / 2
        middle = min(max((scale.start + scale.end) / 2, half), WIDTH - half)
        drawing.text(middle, bottom + 32, axis, "t soft", "middle")


def bullet(
    name: str, title: str, desc: str, mark: ChartRow, bound: tuple[float, str], at_least: bool, top: float, outcome: str
) -> Markup:
    """One interval against the bound (value and words) of a rule; the side where the rule holds is shaded."""
    height, y = 58.0, 22.0
    drawing = SvgCanvas(name, WIDTH, height, title, desc)
    scale = AxisScale(0.0, top, 6.0, WIDTH - 6.0)
    x = scale(bound[0])
    good = (x, scale.end) if at_least else (scale.start, x)
    drawing.bar(scale.start, y - 9, scale.end - scale.start, 18, "track", 4)
    drawing.bar(good[0], y - 9, good[1] - good[0], 18, "good", 4)
    if mark.low is not None and mark.high is not None:
        drawing.bar(scale(mark.low), y - 3.5, max(2.0, scale(mark.high) - scale(mark.low)), 7, f"span {outcome}", 3.5)
    drawing.dot(scale(mark.value), y, 5.5, f"dot {outcome}")
    drawing.line(x, y - 14, x, y + 14, "bound")
    half = len(bound[1]) * CHARACTER / 2
    drawing.text(min(max(x, half), WIDTH - half), height - 6, bound[1], "t soft", "middle")
    return drawing.render()


def curves(
    name: str,
    title: str,
    desc: str,
    lines: Sequence[ChartSeries],
    axis: str,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Lines over steps, named at their ends, from zero unless a value is below it; ``mark`` is an upright line."""
    height, left, right, top = 240.0, 38.0, 84.0, 16.0
    bottom = height - AXIS - 14
    drawing = SvgCanvas(name, WIDTH, height, title, desc)
    xs = [x for line in lines for x, _ in line.points] + ([mark[0]] if mark else [])
    ys = [y for line in lines for _, y in line.points]
    low, high = (0.0, ceiling(max(ys, default=1.0))) if min(ys, default=0.0) >= 0 else (min(ys), max(ys))
    across = AxisScale(0.0, max(xs, default=1.0), left, WIDTH - right)
    up = AxisScale(low, high, bottom, top)
    for value in ticks(low, high):
        drawing.line(left, up(value), WIDTH - right, up(value), "axis" if value == low else "grid")
        drawing.text(left - 8, up(value) + 4, tick_text(value), "t soft scale", "end")
    for value in ticks(0.0, across.high, 3):
        drawing.text(across(value), bottom + 18, tick_text(value), "t soft scale", "middle")
    drawing.text((left + WIDTH - right) / 2, height - 6, axis, "t soft", "middle")
    if mark:
        _upright(drawing, across(mark[0]), top, bottom, mark[1])
    for line in lines:
        points = [(across(x), up(y)) for x, y in line.points]
        drawing.path(points, f"curve {line.look}")
        if len(points) <= 40:
            for x, y in points:
                drawing.dot(x, y, 2.6, f"point {line.look}")
    _ends(drawing, lines, across, up, (top, bottom))
    return drawing.render()


def _upright(drawing: SvgCanvas, x: float, top: float, bottom: float, words: str) -> None:
    drawing.line(x, top, x, bottom, "mark")
    anchor = "start" if x < WIDTH / 2 else "end"
    drawing.text(x + (5 if anchor == "start" else -5), top + 14, words, "t soft", anchor)


def _ends(
    drawing: SvgCanvas, lines: Sequence[ChartSeries], across: AxisScale, up: AxisScale, room: tuple[float, float]
) -> None:
    """Write each line's name behind its end, pushed apart so that names do not cover one another."""
    ends = sorted((up(line.points[-1][1]), i) for i, line in enumerate(lines) if line.points)
    placed: list[tuple[float, int]] = []
    for y, i in ends:
        placed.append((max(y, placed[-1][0] + 15) if placed else max(y, room[0]), i))
    over = max(0.0, placed[-1][0] - room[1]) if placed else 0.0
    for y, i in placed:
        line = lines[i]
        x = across(line.points[-1][0])
        drawing.text(x + 8, y - over + 4, shorten(line.label, int((WIDTH - x - 8) / CHARACTER)), f"t name {line.look}")


@dataclass(frozen=True, slots=True)
class LatencyBar:
    """One row of a latency chart: the median and the 95th percentile of an operation."""

    label: str
    median: float
    p95: float
    text: str


def latency_bars(name: str, title: str, desc: str, rows: Sequence[LatencyBar], axis: str) -> Markup:
    """From the median to the 95th percentile, one row for each operation, from zero."""
    high = 60.0
    drawing = SvgCanvas(name, WIDTH, TOP + len(rows) * high + AXIS + 14, title, desc)
    scale = AxisScale(0.0, ceiling(max(r.p95 for r in rows)), 8.0, WIDTH - 16)
    for i, row in enumerate(rows):
        y = TOP + i * high
        drawing.text(8, y + 12, shorten(row.label, int(WIDTH / CHARACTER)), "t strong")
        drawing.text(8, y + 27, row.text, "t num")
        _grid(drawing, scale, y + 33, y + 54)
        drawing.bar(scale.start, y + 37, scale(row.median) - scale.start, 12, "bar", 2)
        drawing.line(scale(row.median), y + 43, scale(row.p95), y + 43, "whisker")
        drawing.line(scale(row.p95), y + 37, scale(row.p95), y + 49, "whisker")
    _scale(drawing, scale, TOP + len(rows) * high, axis)
    return drawing.render()
