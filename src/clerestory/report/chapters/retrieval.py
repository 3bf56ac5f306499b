"""Retrieval: does it find the correct answer?"""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format
from clerestory.report.chapters.common import why_not
from clerestory.report.metric_figures import (
    CHANCE_NOTE,
    DIRECTIONS,
    basis,
    candidates,
    chance,
    chart_row,
    figure,
    in_words,
    interval_note,
    k_of,
    recalls,
    slug,
    splits_of,
)
from clerestory.report.model import ReportData
from clerestory.report.svg import charts
from clerestory.report.svg.charts import ChartGroup
from clerestory.report.view import Chapter, Figure

LEAD = (
    "The model gets a picture and looks for its caption, or gets a text and looks for its picture. It answers with a "
    "list, best first. Recall@k is how many of 100 queries have the correct answer among the first k; the whiskers "
    "show how far chance alone could have moved it."
)


def chapter(data: ReportData) -> Chapter:
    """Recall at every k in both directions, one figure for each split."""
    title, short, evidence = "Retrieval: does it find the correct answer?", "Retrieval", data.evaluation
    figures = _figures(evidence) if evidence else ()
    if not figures:
        absent = why_not(evidence, "retrieval", data.name, "Retrieval was not evaluated.")
        return Chapter("retrieval", title, short, 10, absent=(absent,))
    return Chapter("retrieval", title, short, 10, lead=LEAD, figures=figures)


def _figures(evidence: Evidence) -> tuple[Figure, ...]:
    panels = []
    for split in splits_of(evidence):
        groups, shown = [], []
        for task in DIRECTIONS:
            found = recalls(evidence, {"task": task, "split": split})
            rows = tuple(chart_row(evidence, m, f"first {k_of(m)}" if k_of(m) > 1 else "first answer") for m in found)
            if rows:
                number = candidates(evidence, task, split)
                among = f", {format.count(number)} candidates" if number else ""
                groups.append(ChartGroup(f"{_direction(task)}{among}", rows))
                shown += found
        if groups:
            panels.append((split, tuple(groups), shown))
    top = charts.top_of([g for _, groups, _ in panels for g in groups], at_most=100.0)
    return tuple(_figure(evidence, split, groups, shown, top) for split, groups, shown in panels)


def _direction(task: str) -> str:
    return {"image_to_text": "Picture → caption", "text_to_image": "Text → picture"}.get(task, task)


def _figure(
    evidence: Evidence, split: str, groups: tuple[ChartGroup, ...], shown: list[Measurement], top: float
) -> Figure:
    title, name = f"Recall@k on {format.slice_value('split', split)}", f"recall-{slug(split)}"
    desc = in_words(groups)
    svg = charts.whiskers(f"fig-{name}", title, desc, groups, top, "of 100 queries, correct")
    note = f"{interval_note(shown)} {basis(shown)}"
    if any(chance(evidence, m) is not None for m in shown):
        note += f" {CHANCE_NOTE}"
    return figure(name, title, svg, desc, note, evidence, shown)
