"""Cost: what do a thousand requests cost, and a thousand correct answers?"""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format
from clerestory.report.chapters.common import why_not
from clerestory.report.metric_figures import SPLITS, figure, in_words, interval_note
from clerestory.report.model import BenchmarkTrust, ReportData
from clerestory.report.svg import charts
from clerestory.report.svg.charts import ChartGroup, ChartRow
from clerestory.report.trust import with_trust
from clerestory.report.view import Chapter, Figure, TableView

EXAMPLE_PRICES = "CLR-E044"
REQUESTS, CORRECT = "cost_per_1000", "cost_per_1000_correct"


def chapter(data: ReportData) -> Chapter:
    """Cost by task and by operation, with the prices it is computed from."""
    title, short, evidence = "Cost: what does an answer cost?", "Cost", data.evaluation
    trust = data.diagnostics.trust
    tables = tuple(t for t in (_by_task(evidence, trust), _by_operation(evidence)) if t) if evidence else ()
    if evidence is None or not tables:
        absent = why_not(evidence, "cost", data.name, "Cost was not evaluated.")
        return Chapter("cost", title, short, 100, "efficiency", absent=(absent,))
    warnings = tuple(
        f"{format.sentence(f.message)} {format.sentence(f.fix)}" for f in evidence.findings if f.code == EXAMPLE_PRICES
    )
    drawn = _figure(evidence)
    return Chapter(
        "cost", title, short, 100, "efficiency", _answer(evidence), _lead(evidence), (drawn,) if drawn else (),
        tables=tables, warnings=warnings,
    )  # fmt: skip


def _lead(evidence: Evidence) -> str:
    facts = evidence.facts
    prices = "example prices" if facts.get("cost.example_prices") else "the prices of the price file"
    if facts.text("cost.as_of"):
        prices += f" of {facts.text('cost.as_of')}"
    if facts.text("cost.machine"):
        per_hour = format.amount(facts.number("cost.machine_per_hour"), facts.text("cost.currency"))
        prices += f": {facts.text('cost.machine')} at {per_hour} per hour"
    return (
        f"At {prices}. A cheap model that is often wrong may be the more expensive one, so correct answers are priced "
        "separately."
    )


def _costs(evidence: Evidence, name: str) -> list[Measurement]:
    return [m for m in evidence.measurements if m.name == name]


def _answer(evidence: Evidence) -> str:
    correct = [m for m in _costs(evidence, CORRECT) if "of" in m.slice]
    if not correct:
        return ""
    m = min(correct, key=lambda m: m.value)
    each = evidence.find(REQUESTS, dict(m.slice))
    every = f"1,000,000 requests cost {format.amount(1000 * each.value, m.unit)}, and " if each else ""
    where = f"{format.slice_value('task', m.slice['of'])}, on {format.slice_value('split', m.slice.get('split', ''))}"
    return f"Cheapest, for {where}: {every}1,000,000 correct answers {format.amount(1000 * m.value, m.unit)}."


def _figure(evidence: Evidence) -> Figure | None:
    """A million requests and a million correct answers, since a thousand of a small model cost next to nothing."""
    correct = [m for m in _costs(evidence, CORRECT) if "of" in m.slice]
    split = next((s for s in SPLITS if any(m.slice.get("split") == s for m in correct)), "")
    groups, shown = [], []
    for m in (m for m in correct if m.slice.get("split", "") == split):
        each = evidence.find(REQUESTS, dict(m.slice))
        pair = [(label, c) for label, c in (("requests", each), ("correct answers", m)) if c is not None]
        rows = tuple(_row(label, c) for label, c in pair)
        groups.append(ChartGroup(format.capital(format.slice_value("task", m.slice["of"])), rows))
        shown += [c for _, c in pair]
    if not groups:
        return None
    title = "Cost of a million"
    desc = in_words(groups)
    axis = f"{shown[0].unit} per million, on {format.slice_value('split', split)}"
    svg = charts.whiskers("fig-cost", title, desc, groups, charts.top_of(groups), axis, bars=True)
    note = f"{interval_note([m for m in shown if m.interval])} The table gives the cost of 1,000."
    return figure("cost-million", title, svg, desc, note, evidence, shown)


def _row(label: str, m: Measurement) -> ChartRow:
    low, high = (1000 * m.interval.low, 1000 * m.interval.high) if m.interval else (None, None)
    return ChartRow(label, 1000 * m.value, low, high, format.digits(1000 * m.value))


def _by_task(evidence: Evidence, trust: Sequence[BenchmarkTrust]) -> TableView | None:
    about = [m for m in _costs(evidence, REQUESTS) if "of" in m.slice]
    if not about:
        return None
    reasons = {m.no_interval for m in about}
    shared = reasons.pop() if len(reasons) == 1 else ""
    rows = []
    for m in about:
        correct = evidence.find(CORRECT, dict(m.slice))
        price = format.number(correct) if correct else "no correct answer, so no price"
        each = format.amount(m.value, m.unit) if shared else format.number(m)
        rows.append((format.slice_words(m.slice), each, price, format.counted(m)))
    head = ("Task", "1,000 requests", "1,000 correct answers", "Samples")
    caption = f"By task (the cost of requests has no interval: {shared})" if shared else "By task"
    return with_trust(TableView(caption, head, tuple(rows)), about, trust)


def _by_operation(evidence: Evidence) -> TableView | None:
    rows = tuple(
        (
            format.capital(format.slice_value("operation", m.slice["operation"])),
            m.slice.get("batch", "1"),
            format.number(m),
            format.counted(m),
        )
        for m in _costs(evidence, REQUESTS)
        if "operation" in m.slice
    )
    return TableView("By operation", ("Operation", "Batch size", "1,000 requests", "Samples"), rows) if rows else None
