"""Captioning: how good are its captions?"""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TaskName
from clerestory.report import format
from clerestory.report.metric_figures import (
    WHOLE_TASK,
    basis,
    chart_row,
    figure,
    interval_note,
    rows_in_words,
    slug,
)
from clerestory.report.model import ReportData
from clerestory.report.svg import charts
from clerestory.report.svg.charts import ChartGroup
from clerestory.report.view import Chapter, Figure
from clerestory.stats.metrics import metric

LEAD = "The captions that it generates, compared with the reference captions that people gave."
_SPLITS = {"test": "new concepts", "test_style": "new style"}


def chapter(data: ReportData) -> Chapter | None:
    """One figure for each metric of captions; None where no caption was generated."""
    figures = _figures(data.evaluation) if data.evaluation else ()
    if not figures:
        return None
    return Chapter("captioning", "Captioning: how good are its captions?", "Captioning", 40, lead=LEAD, figures=figures)


def _figures(evidence: Evidence) -> tuple[Figure, ...]:
    found = [m for m in evidence.measurements if m.slice.get("task") == TaskName.CAPTION and set(m.slice) <= WHOLE_TASK]
    return tuple(
        _figure(evidence, name, sorted((m for m in found if m.name == name), key=lambda m: m.slice.get("split", "")))
        for name in sorted({m.name for m in found})
    )


def _figure(evidence: Evidence, name: str, shown: list[Measurement]) -> Figure:
    known = metric(name)
    group = ChartGroup("", tuple(chart_row(evidence, m, _label(m)) for m in shown))
    desc = rows_in_words(group.rows)
    top = charts.top_of([group], 1.0 if shown[0].unit == format.SHARE else None)
    svg = charts.whiskers(f"fig-{slug(name)}", known.title, desc, [group], top)
    note = f"{known.meaning} {interval_note(shown)} {basis(shown)}"
    return figure(slug(name), known.title, svg, desc, note, evidence, shown)


def _label(m: Measurement) -> str:
    return _SPLITS.get(m.slice.get("split", ""), "all pictures")
