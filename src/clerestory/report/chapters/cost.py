"""What does it cost: a thousand requests, and a thousand right answers?"""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import charts, format
from clerestory.report.chapters.common import labelled, why_not
from clerestory.report.charts import Group, Mark
from clerestory.report.metric_figures import SPLITS, interval_words, table
from clerestory.report.model import ReportData, Trust
from clerestory.report.trust import benchmarks
from clerestory.report.view import Chapter, Figure, Table

EXAMPLES = "CLR-E044"


def chapter(data: ReportData) -> Chapter:
    """Cost by task and by operation, with the price file it rests on."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    title, short = "What does it cost?", "Cost"
    tables = tuple(t for t in (_tasks(evidence, data.examined.trust), _operations(evidence)) if t) if evidence else ()
    if evidence is None or not tables:
        absent = why_not(evidence, "cost", data.name, "What its answers cost was not examined.")
        return Chapter("cost", title, short, absent=(absent,))
    prices = evidence.facts.get("cost", "a price file that the evidence does not name")
    machine = evidence.facts.get("cost_machine", "")
    lead = f"At {prices}" + (f", on {machine}." if machine else ".")
    lead += " A cheap model that is often wrong may be the dearer one, so right answers are priced by themselves."
    warnings = tuple(
        f"{format.sentence(f.message)} {format.sentence(f.fix)}" for f in evidence.findings if f.code == EXAMPLES
    )
    drawn = _figure(evidence)
    figures = (drawn,) if drawn else ()
    return Chapter("cost", title, short, _answer(evidence), lead, figures, tables=tables, warnings=warnings)


def _costs(evidence: Evidence, name: str) -> list[Measurement]:
    return [m for m in evidence.measurements if m.name == name]


def _answer(evidence: Evidence) -> str:
    right = [m for m in _costs(evidence, "cost_per_1000_correct") if "of" in m.slice]
    if not right:
        return ""
    m = min(right, key=lambda m: m.value)
    each = evidence.find("cost_per_1000", dict(m.slice))
    every = f"1,000,000 requests cost {format.amount(1000 * each.value, m.unit)}, and " if each else ""
    where = format.slice_words(m.slice)
    return f"At its cheapest ({where}), {every}1,000,000 right answers {format.amount(1000 * m.value, m.unit)}."


def _figure(evidence: Evidence) -> Figure | None:
    """A million requests and a million right answers, since a thousand of a small model cost next to nothing."""
    right = [m for m in _costs(evidence, "cost_per_1000_correct") if "of" in m.slice]
    split = next((s for s in SPLITS if any(m.slice.get("split") == s for m in right)), "")
    groups, shown = [], []
    for m in (m for m in right if m.slice.get("split", "") == split):
        each = evidence.find("cost_per_1000", dict(m.slice))
        pair = [(label, c) for label, c in (("requests", each), ("right answers", m)) if c is not None]
        marks = tuple(_mark(label, c) for label, c in pair)
        groups.append(Group(format.slice_value("task", m.slice["of"]).capitalize(), marks))
        shown += [c for _, c in pair]
    if not groups:
        return None
    title = "What a million of them cost"
    desc = ". ".join(f"{g.heading}: " + "; ".join(f"{k.label} {k.text}" for k in g.marks) for g in groups)
    axis = f"{shown[0].unit} for a million, on {format.slice_value('split', split)}"
    svg = charts.whiskers("fig-cost", title, desc, groups, charts.top_of(groups), axis, bars=True)
    note = f"{interval_words([m for m in shown if m.interval])} The table gives the cost of 1,000."
    return Figure("cost-million", title, desc, svg, note, table(evidence, shown, title), benchmarks(shown))


def _mark(label: str, m: Measurement) -> Mark:
    low, high = (1000 * m.interval.low, 1000 * m.interval.high) if m.interval else (None, None)
    return Mark(label, 1000 * m.value, low, high, format.digits(1000 * m.value))


def _tasks(evidence: Evidence, trust: Sequence[Trust]) -> Table | None:
    rows = []
    shared = {m.no_interval for m in _costs(evidence, "cost_per_1000") if "of" in m.slice}
    alike = shared.pop() if len(shared) == 1 else ""
    for m in (m for m in _costs(evidence, "cost_per_1000") if "of" in m.slice):
        right = evidence.find("cost_per_1000_correct", dict(m.slice))
        told = format.number(right) if right else "no right answer, so no price"
        each = format.amount(m.value, m.unit) if alike else format.number(m)
        rows.append((format.slice_words(m.slice), each, told, format.counted(m)))
    head = ("Task", "1,000 requests", "1,000 right answers", "Counted on")
    caption = f"By task (of 1,000 requests no interval: {alike})" if alike else "By task"
    about = [m for m in _costs(evidence, "cost_per_1000") if "of" in m.slice]
    return labelled(Table(caption, head, tuple(rows)), about, trust) if rows else None


def _operations(evidence: Evidence) -> Table | None:
    rows = tuple(
        (
            format.slice_value("operation", m.slice["operation"]).capitalize(),
            f"{m.slice.get('batch', '1')} at once",
            format.number(m),
            format.counted(m),
        )
        for m in _costs(evidence, "cost_per_1000")
        if "operation" in m.slice
    )
    return Table("By operation", ("What", "How many", "1,000 requests", "Counted on"), rows) if rows else None
