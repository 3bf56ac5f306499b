"""Plots: small multiples of curves, reliability diagrams, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from clerestory.report.svg.canvas import AxisScale, SvgCanvas, ceiling, shorten, tick_text, ticks
from clerestory.report.svg.charts import CHARACTER, WIDTH
from clerestory.stats.calibration import ReliabilityBin

LEGEND, TITLE, FOOT = 20.0, 20.0, 22.0


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """One point of a curve, with the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PlotCurve:
    """A line with its interval as a band; ``look`` is its style: ``main``, ``part1`` or ``part2``."""

    label: str
    points: tuple[PlotPoint, ...]
    look: str = "main"


@dataclass(frozen=True, slots=True)
class PlotPanel:
    """One small plot: curves, and reference levels as (value, style)."""

    title: str
    curves: tuple[PlotCurve, ...]
    levels: tuple[tuple[float, str], ...] = ()


def panels(
    name: str,
    title: str,
    desc: str,
    some: Sequence[PlotPanel],
    legend: Sequence[tuple[str, str]],
    top: float,
    axis: str,
    across: int = 2,
) -> Markup:
    """Small plots side by side with the same scales, so that they can be compared.

    Args:
        name: unique on the page.
        title: what it shows.
        desc: the same in words with the numbers.
        some: the plots, in rows of ``across``.
        legend: (label, style) of every kind of line; a style that starts with ``level`` is dashed.
        top: the upper end of the common axis from zero.
        axis: label of the horizontal axis.
        across: plots per row.
    """
    wide, left = WIDTH / across, 30.0
    high = 118.0 if across > 1 else 210.0
    head = TITLE if any(p.title for p in some) else 6.0
    each = head + high + FOOT
    rows = -(-len(some) // across)
    start = LEGEND * len(legend) + 6
    drawing = SvgCanvas(name, WIDTH, start + rows * each + 18, title, desc)
    for i, (words, look) in enumerate(legend):
        _key(drawing, LEGEND * i + 12, words, look)
    xs = [p.x for panel in some for curve in panel.curves for p in curve.points]
    for i, panel in enumerate(some):
        x, y = (i % across) * wide, start + (i // across) * each
        if panel.title:
            drawing.text(x + left, y + 13, shorten(panel.title, int((wide - left) / CHARACTER)), "t strong")
        scale = AxisScale(min(xs, default=0.0), max(xs, default=1.0), x + left + 6, x + wide - 12)
        _panel(drawing, panel, scale, AxisScale(0.0, top, y + head + high, y + head + 4), x + left)
    drawing.text(WIDTH / 2, start + rows * each + 13, axis, "t soft", "middle")
    return drawing.render()


def _key(drawing: SvgCanvas, y: float, words: str, look: str) -> None:
    drawing.line(0, y - 4, 22, y - 4, look if look.startswith("level") else f"curve {look}")
    if not look.startswith("level"):
        drawing.dot(11, y - 4, 3, f"point {look}")
    drawing.text(30, y, shorten(words, int((WIDTH - 30) / CHARACTER)), "t")


def _panel(drawing: SvgCanvas, panel: PlotPanel, across: AxisScale, up: AxisScale, left: float) -> None:
    for value in ticks(up.low, up.high, 2):
        drawing.line(left, up(value), across.end + 6, up(value), "axis" if value == 0 else "grid")
        drawing.text(left - 5, up(value) + 4, tick_text(value), "t soft scale", "end")
    for value in ticks(across.low, across.high, 5):
        drawing.text(across(value), up.start + 16, tick_text(value), "t soft scale", "middle")
    for value, look in panel.levels:
        drawing.line(left, up(value), across.end + 6, up(value), look)
    for curve in panel.curves:
        known = [p for p in curve.points if p.low is not None and p.high is not None]
        edge = [(across(p.x), up(p.high or 0.0)) for p in known]
        edge += [(across(p.x), up(p.low or 0.0)) for p in reversed(known)]
        drawing.area(edge, f"band {curve.look}")
    for curve in panel.curves:
        places = [(across(p.x), up(p.y)) for p in curve.points]
        drawing.path(places, f"curve {curve.look}")
        for x, y in places:
            drawing.dot(x, y, 2.6, f"point {curve.look}")


def reliability(name: str, title: str, desc: str, some: Sequence[tuple[str, Sequence[ReliabilityBin]]]) -> Markup:
    """A reliability diagram: accuracy of answers at each confidence, against the diagonal; below, how many there are.

    Args:
        name: unique on the page.
        title: what it shows.
        desc: the same in words with the numbers.
        some: one or two (heading, bins); shares from 0 to 1.
    """
    wide, left, high, low = WIDTH / 2, 30.0, 134.0, 34.0
    drawing = SvgCanvas(name, WIDTH, TITLE + high + low + 58, title, desc)
    for i, (heading, bins) in enumerate(some):
        x = i * wide
        across = AxisScale(0.0, 100.0, x + left, x + wide - 10)
        up = AxisScale(0.0, 100.0, TITLE + high, TITLE + 4)
        drawing.text(x + left, 13, shorten(heading, int((wide - left) / CHARACTER)), "t strong")
        for value in (0.0, 50.0, 100.0):
            drawing.line(left + x, up(value), across.end, up(value), "axis" if value == 0 else "grid")
            drawing.text(x + left - 5, up(value) + 4, tick_text(value), "t soft scale", "end")
        drawing.line(across(0), up(0), across(100), up(100), "level")
        _bins(drawing, bins, across, up, AxisScale(0.0, max([b.n for b in bins], default=1), 0.0, low))
    drawing.text(WIDTH / 2, TITLE + high + low + 34, "confidence, of 100", "t soft", "middle")
    drawing.text(
        WIDTH / 2, TITLE + high + low + 50, "line: accuracy, of 100 · bars: number of answers", "t soft", "middle"
    )
    return drawing.render()


def _bins(
    drawing: SvgCanvas, bins: Sequence[ReliabilityBin], across: AxisScale, up: AxisScale, deep: AxisScale
) -> None:
    floor = up.start + 4 + deep.end
    for b in bins:
        x, ends = across(100 * b.confidence), [up(100 * end) for end in (b.interval.low, b.interval.high)]
        start, width = across(100 * b.low), across(100 * b.high) - across(100 * b.low)
        drawing.bar(start + 0.5, floor - deep(b.n), width - 1, deep(b.n), "bar")
        drawing.line(x, ends[0], x, ends[1], "whisker")
    drawing.path([(across(100 * b.confidence), up(100 * b.accuracy)) for b in bins], "curve main")
    for b in bins:
        drawing.dot(across(100 * b.confidence), up(100 * b.accuracy), 3.4, "dot")
    drawing.line(across.start, floor, across.end, floor, "axis")
    for value in (0.0, 50.0, 100.0):
        anchor = {0.0: "start", 100.0: "end"}.get(value, "middle")
        drawing.text(across(value), floor + 14, tick_text(value), "t soft scale", anchor)


def histogram(
    name: str,
    title: str,
    desc: str,
    edges: Sequence[float],
    counts: Sequence[int],
    marks: Sequence[tuple[float, str]],
    axis: str,
) -> Markup:
    """Bars over a straight axis, with upright marks that are named above; marks beyond the end stand at the end."""
    head, high, left = 8.0 + 16.0 * len(marks), 120.0, 38.0
    drawing = SvgCanvas(name, WIDTH, head + high + 40, title, desc)
    low, last = edges[0], edges[-1]
    across = AxisScale(low, max([last, *(value for value, _ in marks)]), left, WIDTH - 12)
    up = AxisScale(0.0, ceiling(float(max(counts, default=1)), 3), head + high, head + 4)
    for value in ticks(0.0, up.high, 3):
        drawing.line(left, up(value), WIDTH - 12, up(value), "axis" if value == 0 else "grid")
        drawing.text(left - 6, up(value) + 4, tick_text(value), "t soft scale", "end")
    for start, end, count in zip(edges, edges[1:], counts, strict=False):
        width = max(0.6, across(end) - across(start) - 0.8)
        drawing.bar(across(start), up(count), width, up.start - up(count), "bar")
    for value in ticks(across.low, across.high, 5):
        drawing.text(across(value), up.start + 16, tick_text(value), "t soft scale", "middle")
    for i, (value, _) in enumerate(marks):
        drawing.line(across(value), 15.0 + 16.0 * (len(marks) - 1 - i), across(value), up.start, f"mark m{i}")
    for i, (value, words) in enumerate(marks):
        x, y = across(value), 12.0 + 16.0 * (len(marks) - 1 - i)
        end = x + 5 + len(words) * CHARACTER < WIDTH
        drawing.text(x + 4 if end else x - 4, y, words, "t over", "start" if end else "end")
    drawing.text((left + WIDTH) / 2, up.start + 34, axis, "t soft", "middle")
    return drawing.render()
