"""Tables and figures of measurements, and the measurements that several chapters look up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from clerestory.core.codec import Tags
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TaskName, chance_fact
from clerestory.core.sample import TEST, TEST_STYLE
from clerestory.report import format
from clerestory.report.svg import charts
from clerestory.report.svg.charts import ChartGroup, ChartRow
from clerestory.report.trust import benchmarks
from clerestory.report.view import Figure, TableView
from clerestory.stats.metrics import metric

DIRECTIONS = (TaskName.IMAGE_TO_TEXT, TaskName.TEXT_TO_IMAGE)
SPLITS = (TEST, TEST_STYLE)
RECALL = "recall@{k}"
MAX_BARS = 16
UNKNOWN = "—"
HEAD = ("Metric", "Measured on", "Value and interval", "Samples", "Chance level")
WHOLE_TASK = {"task", "split"}
CHANCE_NOTE = "The dashed tick is the chance level: what guessing would reach."


def k_of(m: Measurement) -> int:
    """The k of a measurement of recall@k; 0 for another measurement."""
    known = metric(m.name)
    return known.parameter or 0 if known.base == RECALL and known.role == "value" else 0


def splits_of(evidence: Evidence) -> tuple[str, ...]:
    """The splits retrieval was measured on: ``test`` and ``test_style`` where they exist, else all there are."""
    seen = dict.fromkeys(m.slice["split"] for m in evidence.measurements if k_of(m) and "split" in m.slice)
    return tuple(s for s in SPLITS if s in seen) or tuple(sorted(seen))


def recalls(evidence: Evidence, where: dict[str, str]) -> list[Measurement]:
    """Recall at every k on exactly this slice, smallest k first."""
    wanted = Tags(where)
    return sorted((m for m in evidence.measurements if k_of(m) and m.slice == wanted), key=k_of)


def candidates(evidence: Evidence, task: str, split: str) -> int:
    """How many candidates a retrieval query has; 0 when the evidence does not say."""
    return evidence.facts.integer(f"candidates.{task}.{split}")


def chance(evidence: Evidence, m: Measurement) -> float | None:
    """The chance level of a recall; None when the evidence does not say.

    An image has one correct caption, so its chance level is the same on every finer slice; a text may have several
    correct images, so there it is known only for the slice the evidence names.
    """
    task, split = m.slice.get("task", ""), m.slice.get("split", "")
    if set(m.slice) != WHOLE_TASK and task != TaskName.IMAGE_TO_TEXT:
        return None
    name = chance_fact(m.name, task, split)
    return evidence.facts.number(name) if name in evidence.facts else None


def chance_words(evidence: Evidence, m: Measurement) -> str:
    """``0.02`` with as many decimals as it needs, or a dash."""
    level = chance(evidence, m)
    if level is None:
        return UNKNOWN
    return f"{level:.2g}" if level >= 0.001 else f"{level:.1g}"


def table(evidence: Evidence, measurements: Iterable[Measurement], caption: str) -> TableView:
    """Measurements as a table; the chance level is left out where no row has one."""
    rows = tuple(
        (
            metric(m.name).title,
            format.slice_words(m.slice),
            format.number(m),
            format.counted(m),
            chance_words(evidence, m),
        )
        for m in measurements
    )
    if all(row[-1] == UNKNOWN for row in rows):
        return TableView(caption, HEAD[:-1], tuple(row[:-1] for row in rows))
    return TableView(caption, HEAD, rows)


def chart_row(evidence: Evidence, m: Measurement, label: str, with_n: bool = False) -> ChartRow:
    """One measurement as a row of a chart; shares of answers are drawn as N of 100."""
    times = 100.0 if format.countable(m) else 1.0
    low, high = (times * m.interval.low, times * m.interval.high) if m.interval else (None, None)
    guess = chance(evidence, m)
    text = format.brief(m) + (f" n {format.count(m.n)}" if with_n else "")
    return ChartRow(label, times * m.value, low, high, text, None if guess is None else times * guess)


def rows_in_words(rows: Iterable[ChartRow]) -> str:
    """Labels with their numbers, for people who do not see the drawing."""
    return "; ".join(f"{row.label}: {row.text}" for row in rows)


def in_words(groups: Iterable[ChartGroup]) -> str:
    """Groups of rows with their numbers, for people who do not see the drawing."""
    return ". ".join(f"{g.heading}: {rows_in_words(g.rows)}" if g.heading else rows_in_words(g.rows) for g in groups)


def figure(
    name: str, title: str, svg: Markup, desc: str, note: str, evidence: Evidence, shown: Sequence[Measurement]
) -> Figure:
    """A figure whose table holds the measurements it shows."""
    return Figure(name, title, desc, svg, note.strip(), table(evidence, shown, title), benchmarks(shown))


def bars(
    name: str,
    title: str,
    groups: Sequence[tuple[str, Sequence[tuple[str, Measurement]]]],
    evidence: Evidence,
    note: str = "",
    axis: str = "",
    reference: float | None = None,
    limit: float | None = 100.0,
    with_n: bool = False,
) -> Figure:
    """Labelled measurements as bars with whiskers, in groups.

    Args:
        name: the anchor.
        title: of the figure.
        groups: heading, and the labelled measurements under it.
        evidence: of the measurements, for chance levels.
        note: how to read it; whiskers and n are explained after it.
        axis: what the axis shows.
        reference: where to draw a dashed tick, as a share; the chance level by default.
        limit: the largest end of the axis.
        with_n: write n beside each value.
    """
    drawn = [
        ChartGroup(heading, tuple(_bar(evidence, label, m, reference, with_n) for label, m in some))
        for heading, some in groups
    ]
    shown = [m for _, some in groups for _, m in some]
    desc = in_words(drawn)
    svg = charts.whiskers(f"fig-{name}", title, desc, drawn, charts.top_of(drawn, limit), axis, bars=True)
    return figure(name, title, svg, desc, f"{note} {interval_note(shown)} {basis(shown)}", evidence, shown)


def _bar(evidence: Evidence, label: str, m: Measurement, reference: float | None, with_n: bool) -> ChartRow:
    row = chart_row(evidence, m, label, with_n)
    if reference is None or row.chance is not None:
        return row
    times = 100.0 if format.countable(m) else 1.0
    return ChartRow(row.label, row.value, row.low, row.high, row.text, times * reference)


def interval_note(shown: Sequence[Measurement]) -> str:
    """What the whiskers of these measurements are, or why there are none."""
    methods: dict[float, set[str]] = {}
    for m in shown:
        if m.interval:
            methods.setdefault(m.interval.level, set()).add(m.interval.method)
    reasons = sorted({m.no_interval for m in shown if m.no_interval})
    parts = [
        f"Whiskers are {format.level(level)} confidence intervals ({format.listing(sorted(names))})."
        for level, names in sorted(methods.items())
    ]
    return " ".join(parts + [f"Without an interval: {format.sentence(reason)}" for reason in reasons])


def interval_kinds(shown: Sequence[Measurement]) -> str:
    """``the 95% confidence interval (order-statistics)``."""
    kinds = sorted({(m.interval.level, m.interval.method) for m in shown if m.interval})
    words = [f"the {format.level(level)} confidence interval ({method})" for level, method in kinds]
    return format.listing(words) or "no interval"


def basis(shown: Sequence[Measurement]) -> str:
    """``Measured on n = 503 in 488 concepts.``, or each one when they differ."""
    return f"Measured on {'; '.join(dict.fromkeys(format.counted(m) for m in shown))}."


def slug(text: str) -> str:
    """The text as part of an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
