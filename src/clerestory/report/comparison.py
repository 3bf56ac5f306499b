"""The page of a comparison: which model is better at which task, with intervals, and which images flipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from clerestory.core.codec import encode
from clerestory.core.comparison import Comparison, ComparisonOutcome, ComparisonRow, Flip
from clerestory.core.errors import NotFound
from clerestory.core.outputs import write_output
from clerestory.core.sample import Dataset
from clerestory.report import format
from clerestory.report.files import ReportFiles, page_files
from clerestory.report.release_diff import WORDS, ReleaseDiff, diff_json
from clerestory.report.render import fill
from clerestory.report.svg.canvas import AxisScale, SvgCanvas, shorten, tick_text, ticks
from clerestory.report.thumbnails import ReportThumbnails
from clerestory.stats.metrics import metric

MAX_FLIPS, OPEN_FLIPS = 12, 6
FAMILIES = {"clean": "", "corrupted": "on corrupted pictures", "perturbed_text": "with changed text"}
STATES: dict[ComparisonOutcome, str] = {
    "better": "yes",
    "worse": "no",
    "no_difference": "plain",
    "inconclusive": "unsure",
}
OUTCOMES: dict[ComparisonOutcome, str] = {
    "better": "better",
    "worse": "worse",
    "no_difference": "no difference",
    "inconclusive": "inconclusive",
}
TITLES: dict[ComparisonOutcome, str] = {
    "better": "Better at something, and worse at nothing.",
    "worse": "Worse at something.",
    "no_difference": "No difference that matters.",
    "inconclusive": "Nothing is shown to be worse, but the data cannot show everything yet.",
}
DIFF_SECTIONS = ("data", "model", "licences", "policy", "decision")
SECTION_TITLES = ("Data", "Model", "Made from, and licences", "Policy", "Decision")
WIDTH, ROW, CHARACTER = 360.0, 46.0, 6.9


@dataclass(frozen=True, slots=True)
class FlipView:
    """One flipped sample with its thumbnail as a data URI, empty where there is none."""

    flip: Flip
    thumbnail: str


@dataclass(frozen=True, slots=True)
class FlipsView:
    """The flipped samples of one task: those that only A answered correctly, and those that only B did."""

    title: str
    only_a: int
    only_b: int
    correct_a: tuple[FlipView, ...]
    correct_b: tuple[FlipView, ...]


@dataclass(frozen=True, slots=True)
class GroupForest:
    """A forest plot of one task by the values of one group."""

    title: str
    svg: Markup
    rows: tuple[ComparisonRow, ...]


def comparison_files(a: str, b: str, out: Path, force: bool = False) -> ReportFiles:
    """Where a comparison of two models is written; arguments and errors as for ``write_comparison``."""
    return page_files(out, f"{a}-against-{b}", force)


def write_comparison(
    comparison: Comparison, out: Path, images: Dataset | None = None, force: bool = False
) -> ReportFiles:
    """Write a comparison as one HTML file that needs nothing else, with the same numbers as JSON next to it.

    Args:
        comparison: to write.
        out: the ``.html`` file, or the folder to put it in.
        images: the data both were evaluated on, for thumbnails.
        force: replace existing files.

    Raises:
        InputError: the files cannot be written, or exist.
    """
    files = comparison_files(comparison.a, comparison.b, out, force)
    content = json.dumps(encode(comparison), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    write_output(files.json, content.encode(), force)
    write_output(files.html, render_comparison(comparison, images).encode(), force)
    return files


def write_release_diff(diff: ReleaseDiff, out: Path, images: Dataset | None = None, force: bool = False) -> ReportFiles:
    """Write the difference between two releases as one HTML file, with the same numbers as JSON next to it.

    Arguments and errors as for ``write_comparison``.
    """
    files = page_files(out, f"{diff.a.ref}-to-{diff.b.ref}", force)
    content = json.dumps(diff_json(diff), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    write_output(files.json, content.encode(), force)
    write_output(files.html, render_release_diff(diff, images).encode(), force)
    return files


def render_release_diff(diff: ReleaseDiff, images: Dataset | None = None) -> str:
    """The HTML document; the sections of a comparison follow where there is one."""
    shared = _values(diff.comparison, images) if diff.comparison is not None else {"c": None}
    titles = dict(zip(DIFF_SECTIONS, SECTION_TITLES, strict=True))
    sections = [(titles[name], diff.section(name, True), diff.section(name)) for name in DIFF_SECTIONS]
    paired = [each for each in diff.metrics if each.difference is not None]
    return fill(
        "diff.html",
        **shared,
        diff=diff,
        word=WORDS[diff.outcome],
        diff_state=STATES[diff.outcome],
        sections=sections,
        metrics=sorted(paired, key=lambda each: list(STATES).index(each.outcome)),
        unpaired=[each for each in diff.metrics if each.difference is None],
        words=WORDS,
        metric_states=STATES,
        fmt=format,
        metric=metric,
    )


def render_comparison(comparison: Comparison, images: Dataset | None = None) -> str:
    """The HTML document."""
    return fill("comparison.html", **_values(comparison, images))


def _values(comparison: Comparison, images: Dataset | None) -> dict[str, Any]:
    """What the template of a comparison shows."""
    overall = tuple(row for row in comparison.results if row.is_overall)
    return {
        "c": comparison,
        "state": STATES[comparison.verdict] if comparison.verdict != "no_difference" else "yes",
        "title": TITLES[comparison.verdict],
        "clauses": clauses(comparison),
        "overall": overall,
        "strips": _strips(comparison, overall),
        "groups": _groups(comparison),
        "flips": _flips(comparison, images),
        "outcomes": OUTCOMES,
        "states": STATES,
        "name": row_name,
        "flip_answer": flip_answer,
        "points": points,
        "points_between": points_between,
        "share": share,
        "opened": OPEN_FLIPS,
        "format": format,
    }


def headline(comparison: Comparison) -> str:
    """The answer in one row."""
    parts = [f"{beginning} {tasks}" for _, beginning, tasks in clauses(comparison)]
    return "; ".join(parts) if parts else f"{comparison.a} and {comparison.b} have nothing in common to compare"


def clauses(comparison: Comparison) -> list[tuple[ComparisonOutcome, str, str]]:
    """For each outcome, worse first: the outcome, the beginning of its sentence, and the tasks."""
    a, b = comparison.a, comparison.b
    beginnings: dict[ComparisonOutcome, str] = {
        "worse": f"{a} is worse than {b} at",
        "better": f"{a} is better than {b} at",
        "no_difference": "no difference at",
        "inconclusive": "inconclusive at",
    }
    found: list[tuple[ComparisonOutcome, str, str]] = []
    for outcome, beginning in beginnings.items():
        tasks = [_task(row) for row in comparison.results if row.outcome == outcome and row.is_overall]
        if outcome in ("worse", "better"):
            tasks += _groups_with(comparison.results, outcome)
        if tasks:
            found.append((outcome, beginning, "; ".join(tasks)))
    return found


def row_name(row: ComparisonRow) -> str:
    """Task, split and condition of a row in plain words: ``writing captions (captioning) · all images``."""
    parts = [task_name(row.task), format.slice_value("split", row.split), FAMILIES.get(row.condition, "")]
    return " · ".join(part for part in parts if part)


def task_name(task: str) -> str:
    """A task in plain words."""
    return format.slice_value("task", task).replace("_", " ")


def points(value: float | None, sign: bool = True) -> str:
    """A difference of shares in percentage points: ``+1.3``."""
    return "" if value is None else f"{100 * value:{'+' if sign else ''}.1f}".replace("-", "\N{MINUS SIGN}")


def points_between(row: ComparisonRow) -> str:
    """The difference with its interval: ``+1.3 (−0.2 to +2.8)``."""
    if row.low is None:
        return f"{points(row.difference)} (no interval)"
    return f"{points(row.difference)} ({points(row.low)} to {points(row.high)})"


def flip_answer(flip: Flip, model: Literal["a", "b"]) -> str:
    """The answer of one of the two models: its text, the rank of the correct answer, else whether it was correct."""
    answer, rank = (flip.answer_a, flip.rank_a) if model == "a" else (flip.answer_b, flip.rank_b)
    if answer:
        return answer
    return f"rank {rank:,.0f}" if rank is not None else "correct" if flip.correct == model else "incorrect"


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def _task(row: ComparisonRow) -> str:
    needs = f", needs {row.additional_rows:,} more samples" if row.additional_rows else ""
    where = ", ".join(p for p in (format.slice_value("split", row.split), FAMILIES.get(row.condition, "")) if p)
    return f"{task_name(row.task)}, on {where}{needs}"


def _groups_with(rows: Sequence[ComparisonRow], outcome: ComparisonOutcome) -> list[str]:
    """The groups with this outcome whose whole task has another."""
    same = {(row.task, row.split, row.condition) for row in rows if row.is_overall and row.outcome == outcome}
    by_task: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        key = (row.task, row.split, row.condition)
        if not row.is_overall and row.outcome == outcome and key not in same:
            by_task.setdefault(key, []).append(value_name(row))
    return [
        f"{task_name(task)}, on {format.slice_value('split', split)}, of {format.listing(values)}"
        for (task, split, _), values in by_task.items()
    ]


def value_name(row: ComparisonRow) -> str:
    """A group's value in plain words: ``Twemoji``; ``gender woman`` where the value alone is unclear."""
    if row.value in format.NO_VALUE:
        return format.group_value(row.group, row.value)
    plain = format.slice_value(row.group, row.value)
    return plain if plain != row.value else f"{format.slice_key(row.group)} {row.value}"


def _groups(comparison: Comparison) -> list[GroupForest]:
    """One drawing for each task and group."""
    by_group: dict[tuple[str, str, str, str], list[ComparisonRow]] = {}
    for row in comparison.results:
        if not row.is_overall:
            by_group.setdefault((row.task, row.split, row.condition, row.group), []).append(row)
    panels = []
    for i, (key, rows) in enumerate(by_group.items()):
        title = f"{row_name(rows[0])}, by {format.slice_key(key[3])}"
        panels.append(GroupForest(title, _forest(f"group-{i}", comparison, rows), tuple(rows)))
    order: list[ComparisonOutcome] = ["worse", "better", "inconclusive", "no_difference"]
    panels.sort(key=lambda panel: min(order.index(row.outcome) for row in panel.rows))
    return panels


def _strips(comparison: Comparison, rows: Sequence[ComparisonRow]) -> list[Markup]:
    """A strip for each row, all to one scale, to be placed beside its text."""
    reach, drawn = _reach(comparison, rows), []
    for i, row in enumerate(rows):
        desc = f"{points_between(row)} points, {OUTCOMES[row.outcome]}"
        drawing = SvgCanvas(f"strip-{i}", WIDTH, 74.0, f"{comparison.a} minus {comparison.b}: {row_name(row)}", desc)
        scale = AxisScale(-reach, reach, 14.0, WIDTH - 14)
        _frame(drawing, scale, comparison, (22, 52))
        _interval(drawing, scale, row, 37)
        drawn.append(drawing.render())
    return drawn


def _forest(name: str, comparison: Comparison, rows: Sequence[ComparisonRow]) -> Markup:
    """The differences of some groups with their intervals, one below the other."""
    bottom = 26 + len(rows) * ROW
    desc = "; ".join(f"{value_name(row)}: {points_between(row)} points, {OUTCOMES[row.outcome]}" for row in rows)
    drawing = SvgCanvas(name, WIDTH, bottom + 22, f"{comparison.a} minus {comparison.b}, in percentage points", desc)
    reach = _reach(comparison, rows)
    scale = AxisScale(-reach, reach, 14.0, WIDTH - 14)
    _frame(drawing, scale, comparison, (22, bottom))
    for i, row in enumerate(rows):
        top = 26 + i * ROW
        label = points_between(row) if row.low is not None else points(row.difference)
        room = int((WIDTH - 28) / CHARACTER) - len(label)
        drawing.text(scale.start, top + 15, shorten(format.group_value(row.group, row.value), room), "t strong halo")
        drawing.text(scale.end, top + 15, label, "t num halo", "end")
        _interval(drawing, scale, row, top + 31)
    return drawing.render()


def _reach(comparison: Comparison, rows: Sequence[ComparisonRow]) -> float:
    """The half-width of the axis around zero: to the furthest bound, and at least to twice the margin."""
    ends = [abs(end) for row in rows for end in (row.low, row.high, row.difference) if end is not None]
    return max(2 * comparison.margin, min(1.0, max(ends, default=0.0)))


def _frame(drawing: SvgCanvas, scale: AxisScale, comparison: Comparison, room: tuple[float, float]) -> None:
    """The model names on either side, the band of the margin, the grid, and the axis in percentage points."""
    top, bottom = room
    low, high = scale(-comparison.margin), scale(comparison.margin)
    drawing.bar(low, top, high - low, bottom - top, "margin")
    for value in ticks(100 * scale.low, 100 * scale.high, 5):
        drawing.line(scale(value / 100), top, scale(value / 100), bottom, "axis" if value == 0 else "grid")
        label = tick_text(value).replace("-", "\N{MINUS SIGN}")
        drawing.text(scale(value / 100), bottom + 16, f"+{label}" if value > 0 else label, "t soft scale", "middle")
    half = int((WIDTH / 2 - 16) / CHARACTER)
    drawing.text(scale.start, top - 9, shorten(f"\N{LEFTWARDS ARROW} {comparison.b} better", half), "t soft")
    drawing.text(scale.end, top - 9, shorten(f"{comparison.a} better \N{RIGHTWARDS ARROW}", half), "t soft", "end")


def _interval(drawing: SvgCanvas, scale: AxisScale, row: ComparisonRow, y: float) -> None:
    state = STATES[row.outcome]
    if row.low is not None and row.high is not None:
        low, high = scale(row.low), scale(row.high)
        drawing.line(low, y, high, y, f"reach {state}")
        for end in (low, high):
            drawing.line(end, y - 4.5, end, y + 4.5, f"reach {state}")
    drawing.dot(scale(row.difference), y, 5.0, f"dot {state}")


def _flips(comparison: Comparison, images: Dataset | None) -> list[FlipsView]:
    thumbnails = ReportThumbnails()

    def view(flip: Flip) -> FlipView:
        if images is None:
            return FlipView(flip, "")
        try:
            return FlipView(flip, thumbnails.of(images[flip.sample], images.read))
        except NotFound:
            return FlipView(flip, "")

    views = []
    for row in comparison.results:
        if not row.is_overall or not (row.only_a or row.only_b):
            continue
        mine = [f for f in comparison.flips if (f.task, f.split) == (row.task, row.split) and f.family == row.condition]
        sides = [tuple(view(f) for f in [f for f in mine if f.correct == side][:MAX_FLIPS]) for side in ("a", "b")]
        views.append(FlipsView(row_name(row), row.only_a or 0, row.only_b or 0, sides[0], sides[1]))
    return views
