"""The page of a comparison: which of two models is better at what, how sure that is, and which pictures flipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from clerestory.core.codec import encode
from clerestory.core.comparison import Comparison, ComparisonOutcome, ComparisonRow, Flip
from clerestory.core.errors import NotFound
from clerestory.core.files import translate_disk_errors, write_atomic
from clerestory.core.sample import Dataset
from clerestory.report import format
from clerestory.report.files import ReportFiles
from clerestory.report.render import fill
from clerestory.report.svg.canvas import AxisScale, SvgCanvas, shorten, tick_text, ticks
from clerestory.report.thumbnails import ReportThumbnails

SHOWN, OPEN = 12, 6
FAMILIES = {"clean": "", "corrupted": "on damaged pictures", "perturbed_text": "with altered words"}
STATES: dict[ComparisonOutcome, str] = {
    "better": "yes",
    "worse": "no",
    "no_difference": "plain",
    "inconclusive": "unsure",
}
WORDS: dict[ComparisonOutcome, str] = {
    "better": "better",
    "worse": "worse",
    "no_difference": "no difference",
    "inconclusive": "cannot tell yet",
}
TITLES: dict[ComparisonOutcome, str] = {
    "better": "Better, and worse at nothing.",
    "worse": "Worse at something.",
    "no_difference": "No difference that matters.",
    "inconclusive": "Nothing is shown to be worse, but not all can be told yet.",
}
WIDTH, ROW, CHARACTER = 360.0, 46.0, 6.9


@dataclass(frozen=True, slots=True)
class FlipView:
    """One flipped sample with its thumbnail as a data URI, empty where there is none."""

    flip: Flip
    picture: str


@dataclass(frozen=True, slots=True)
class FlipsView:
    """The flipped samples of one task: those only A got right and those only B did."""

    title: str
    only_a: int
    only_b: int
    mine: tuple[FlipView, ...]
    theirs: tuple[FlipView, ...]


@dataclass(frozen=True, slots=True)
class GroupForest:
    """Lines drawn together."""

    title: str
    svg: Markup
    lines: tuple[ComparisonRow, ...]


def write_comparison(comparison: Comparison, out: Path, images: Dataset | None = None) -> ReportFiles:
    """Write a comparison as one HTML file that needs nothing else, with the same numbers as JSON next to it.

    Args:
        comparison: what was found.
        out: the ``.html`` file, or the folder to put it in.
        images: the data both were evaluated on, for thumbnails.

    Raises:
        InputError: the files cannot be written.
    """
    name = f"{comparison.a}-against-{comparison.b}.html".replace("@", "-")
    html = out if out.suffix == ".html" else out / name
    files = ReportFiles(html, html.with_suffix(".json"))
    with translate_disk_errors(html.parent, "choose another folder"):
        said = json.dumps(encode(comparison), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        write_atomic(files.json, said.encode())
        write_atomic(files.html, render_comparison(comparison, images).encode())
    return files


def render_comparison(comparison: Comparison, images: Dataset | None = None) -> str:
    """The HTML document."""
    whole = tuple(line for line in comparison.results if line.is_overall)
    return fill(
        "comparison.html",
        c=comparison,
        state=STATES[comparison.verdict] if comparison.verdict != "no_difference" else "yes",
        title=TITLES[comparison.verdict],
        clauses=clauses(comparison),
        whole=whole,
        strips=_strips(comparison, whole),
        groups=_groups(comparison),
        flips=_flips(comparison, images),
        words=WORDS,
        states=STATES,
        name=line_name,
        flip_answer=flip_answer,
        points=points,
        points_between=points_between,
        share=share,
        opened=OPEN,
        format=format,
    )


def headline(comparison: Comparison) -> str:
    """The answer in one line."""
    parts = [f"{said} {text}" for _, said, text in clauses(comparison)]
    return "; ".join(parts) if parts else f"nothing of {comparison.a} and {comparison.b} can be compared"


def clauses(comparison: Comparison) -> list[tuple[ComparisonOutcome, str, str]]:
    """ComparisonOutcome, its beginning and what it is about, for each word that was given: worse first."""
    a, b = comparison.a, comparison.b
    begins: dict[ComparisonOutcome, str] = {
        "worse": f"{a} is worse than {b} at",
        "better": f"{a} is better than {b} at",
        "no_difference": "no difference at",
        "inconclusive": "inconclusive at",
    }
    found: list[tuple[ComparisonOutcome, str, str]] = []
    for word, begin in begins.items():
        about = [_asked(line) for line in comparison.results if line.outcome == word and line.is_overall]
        if word in ("worse", "better"):
            about += _about_groups(comparison.results, word)
        if about:
            found.append((word, begin, format.listing(about)))
    return found


def line_name(line: ComparisonRow) -> str:
    """What a line is about: ``words for a picture · things it never saw · on damaged pictures``."""
    parts = [task_name(line.task), format.slice_value("split", line.split), FAMILIES.get(line.condition, "")]
    return " · ".join(part for part in parts if part)


def task_name(task: str) -> str:
    """A task in plain words."""
    return format.slice_value("task", task).replace("_", " ")


def points(value: float | None, sign: bool = True) -> str:
    """A difference of shares in points: ``+1.3``."""
    return "" if value is None else f"{100 * value:{'+' if sign else ''}.1f}".replace("-", "\N{MINUS SIGN}")


def points_between(line: ComparisonRow) -> str:
    """The difference with its interval: ``+1.3 (−0.2 to +2.8)``."""
    if line.low is None:
        return f"{points(line.difference)} (no interval)"
    return f"{points(line.difference)} ({points(line.low)} to {points(line.high)})"


def flip_answer(flip: Flip, model: Literal["a", "b"]) -> str:
    """The answer of one of the two models: its text, the rank of the correct answer, else whether it was correct."""
    answer, rank = (flip.answer_a, flip.rank_a) if model == "a" else (flip.answer_b, flip.rank_b)
    if answer:
        return answer
    return f"rank {rank:,.0f}" if rank is not None else "correct" if flip.correct == model else "wrong"


def share(value: float) -> str:
    """A share as per cent."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def _asked(line: ComparisonRow) -> str:
    needs = f", needs {line.additional_rows:,} more samples" if line.additional_rows else ""
    where = ", ".join(p for p in (format.slice_value("split", line.split), FAMILIES.get(line.condition, "")) if p)
    return f"{task_name(line.task)} ({where}{needs})"


def _about_groups(lines: Sequence[ComparisonRow], word: ComparisonOutcome) -> list[str]:
    """The groups that are so where their whole task is not."""
    so = {(line.task, line.split, line.condition) for line in lines if line.is_overall and line.outcome == word}
    told: dict[tuple[str, str, str], list[str]] = {}
    for line in lines:
        key = (line.task, line.split, line.condition)
        if not line.is_overall and line.outcome == word and key not in so:
            told.setdefault(key, []).append(value_name(line))
    return [
        f"{task_name(task)} ({format.slice_value('split', split)}) of {format.listing(values)}"
        for (task, split, _), values in told.items()
    ]


def value_name(line: ComparisonRow) -> str:
    """A group's value in plain words: ``Twemoji``; ``gender woman`` where the value alone says little."""
    plain = format.slice_value(line.group, line.value)
    return plain if plain != line.value else f"{format.slice_key(line.group)} {line.value}"


def _groups(comparison: Comparison) -> list[GroupForest]:
    """One drawing for each task and group."""
    told: dict[tuple[str, str, str, str], list[ComparisonRow]] = {}
    for line in comparison.results:
        if not line.is_overall:
            told.setdefault((line.task, line.split, line.condition, line.group), []).append(line)
    panels = []
    for i, (key, lines) in enumerate(told.items()):
        title = f"{line_name(lines[0])}, by {format.slice_key(key[3])}"
        panels.append(GroupForest(title, _forest(f"group-{i}", comparison, lines), tuple(lines)))
    order: list[ComparisonOutcome] = ["worse", "better", "inconclusive", "no_difference"]
    panels.sort(key=lambda panel: min(order.index(line.outcome) for line in panel.lines))
    return panels


def _strips(comparison: Comparison, lines: Sequence[ComparisonRow]) -> list[Markup]:
    """A strip for each line, all to one scale, to stand next to its words."""
    reach, drawn = _reach(comparison, lines), []
    for i, line in enumerate(lines):
        desc = f"{points_between(line)} points, {WORDS[line.outcome]}"
        drawing = SvgCanvas(f"strip-{i}", WIDTH, 74.0, f"{comparison.a} minus {comparison.b}: {line_name(line)}", desc)
        scale = AxisScale(-reach, reach, 14.0, WIDTH - 14)
        _frame(drawing, scale, comparison, (22, 52))
        _interval(drawing, scale, line, 37)
        drawn.append(drawing.render())
    return drawn


def _forest(name: str, comparison: Comparison, lines: Sequence[ComparisonRow]) -> Markup:
    """The differences of some groups with their intervals, one below the other."""
    bottom = 26 + len(lines) * ROW
    said = "; ".join(f"{value_name(line)}: {points_between(line)} points, {WORDS[line.outcome]}" for line in lines)
    drawing = SvgCanvas(name, WIDTH, bottom + 22, f"{comparison.a} minus {comparison.b}, in points", said)
    reach = _reach(comparison, lines)
    scale = AxisScale(-reach, reach, 14.0, WIDTH - 14)
    _frame(drawing, scale, comparison, (22, bottom))
    for i, line in enumerate(lines):
        top = 26 + i * ROW
        told = points_between(line) if line.low is not None else points(line.difference)
        room = int((WIDTH - 28) / CHARACTER) - len(told)
        drawing.text(scale.start, top + 15, shorten(format.slice_value(line.group, line.value), room), "t strong halo")
        drawing.text(scale.end, top + 15, told, "t num halo", "end")
        _interval(drawing, scale, line, top + 31)
    return drawing.render()


def _reach(comparison: Comparison, lines: Sequence[ComparisonRow]) -> float:
    """How far the axis goes to either side of nought: to the furthest end, and at least to twice the margin."""
    ends = [abs(end) for line in lines for end in (line.low, line.high, line.difference) if end is not None]
    return max(2 * comparison.margin, min(1.0, max(ends, default=0.0)))


def _frame(drawing: SvgCanvas, scale: AxisScale, comparison: Comparison, room: tuple[float, float]) -> None:
    """Who is better on which side, the band that does not matter, the grid and the axis in points."""
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


def _interval(drawing: SvgCanvas, scale: AxisScale, line: ComparisonRow, y: float) -> None:
    state = STATES[line.outcome]
    if line.low is not None and line.high is not None:
        low, high = scale(line.low), scale(line.high)
        drawing.line(low, y, high, y, f"reach {state}")
        for end in (low, high):
            drawing.line(end, y - 4.5, end, y + 4.5, f"reach {state}")
    drawing.dot(scale(line.difference), y, 5.0, f"dot {state}")


def _flips(comparison: Comparison, images: Dataset | None) -> list[FlipsView]:
    thumbnails = ReportThumbnails()

    def view(flip: Flip) -> FlipView:
        if images is None:
            return FlipView(flip, "")
        try:
            return FlipView(flip, thumbnails.of(images[flip.sample], images.read))
        except NotFound:
            return FlipView(flip, "")

    told = []
    for line in comparison.results:
        if not line.is_overall or not (line.only_a or line.only_b):
            continue
        mine = [
            f for f in comparison.flips if (f.task, f.split) == (line.task, line.split) and f.family == line.condition
        ]
        sides = [tuple(view(f) for f in [f for f in mine if f.correct == side][:SHOWN]) for side in ("a", "b")]
        told.append(FlipsView(line_name(line), line.only_a or 0, line.only_b or 0, sides[0], sides[1]))
    return told
