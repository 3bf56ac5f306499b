"""Speed: single requests, requests under load, batches, memory."""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TaskName
from clerestory.core.units import duration
from clerestory.report import format
from clerestory.report.chapters.common import one, pick, why_not
from clerestory.report.metric_figures import UNKNOWN, basis, figure, interval_kinds, slug
from clerestory.report.model import LatencyHistogram, ReportData
from clerestory.report.svg import charts, plots
from clerestory.report.svg.charts import LatencyBar
from clerestory.report.view import Chapter, Figure, TableView
from clerestory.stats.metrics import metric

PERCENTILES = (("latency_p50", "median"), ("latency_p95", "p95"), ("latency_p99", "p99"))
LOAD_METRICS = ("load_p50", "load_p95", "load_p99", "goodput")
LEAD = (
    "Single requests are sent one at a time, on the machine of the evaluation. Upright lines are the median (p50) and "
    "the response times within which 95 and 99 of 100 requests are answered (p95, p99)."
)
_OWN_RATE = "half of capacity"
ARRIVALS = {"poisson": "Poisson", "uniform": "uniform"}


def chapter(data: ReportData) -> Chapter:
    """Latency of single requests with its percentiles, and the behaviour under load."""
    title, short, evidence = "Speed: how long does an answer take?", "Speed", data.evaluation
    if evidence is None:
        absent = why_not(None, "latency", data.name, "Speed was not evaluated.")
        return Chapter("speed", title, short, 90, "efficiency", absent=(absent,))
    drawn = [_percentiles(evidence), *(_histogram(evidence, each) for each in data.diagnostics.latencies)]
    figures, tables = tuple(f for f in drawn if f is not None), _tables(evidence)
    absents = () if figures or tables else (why_not(evidence, "latency", data.name, "Speed was not evaluated."),)
    return Chapter(
        "speed", title, short, 90, "efficiency", _answer(evidence), LEAD if figures else "", figures,
        tables=tables, absent=absents,
    )  # fmt: skip


def _answer(evidence: Evidence) -> str:
    medians = pick(evidence, "latency_p50", "operation", task=TaskName.LATENCY)
    parts = [
        f"{format.slice_value('operation', m.slice['operation'])} takes {format.amount(m.value, m.unit)}"
        for m in medians
    ]
    text = f"In the median, {format.listing(parts)}." if parts else ""
    good = next((m for m in evidence.measurements if m.name == "goodput"), None)
    if good is not None:
        limit = evidence.facts.number("load.slo_ms")
        within = f"within {format.amount(limit, 'ms')}" if limit else "in time"
        text += f" Under load, {100 * good.value:.0f} of 100 requests are answered {within} (goodput)."
    return text.strip()


def _percentiles(evidence: Evidence) -> Figure | None:
    """Median and p95 of each operation."""
    found = {name: pick(evidence, name, "operation", task=TaskName.LATENCY) for name in ("latency_p50", "latency_p95")}
    medians, tails = ({m.slice["operation"]: m for m in some} for some in found.values())
    both = [operation for operation in medians if operation in tails]
    if not both:
        return None
    rows = [
        LatencyBar(
            format.capital(format.slice_value("operation", o)),
            medians[o].value,
            tails[o].value,
            f"median {format.brief(medians[o])}, p95 {format.brief(tails[o])}",
        )
        for o in both
    ]
    title = "Response time of single requests (latency)"
    desc = "; ".join(f"{r.label}: {r.text}" for r in rows)
    svg = charts.latency_bars("fig-latency", title, desc, rows, medians[both[0]].unit)
    shown = [m for o in both for m in (medians[o], tails[o])]
    note = (
        "The bar ends at the median, the line at the 95th percentile (p95). In brackets: "
        f"{interval_kinds(shown)}. {basis(shown)}"
    )
    return figure("latency", title, svg, desc, note, evidence, shown)


def _histogram(evidence: Evidence, histogram: LatencyHistogram) -> Figure | None:
    known = [
        (label, m)
        for name, label in PERCENTILES
        if (m := one(evidence, name, task=TaskName.LATENCY, operation=histogram.operation))
    ]
    if not known:
        return None
    shown = [m for _, m in known]
    title = f"Latency of {format.slice_value('operation', histogram.operation)}"
    marks = [(m.value, f"{label} {format.amount(m.value, m.unit)}") for label, m in known]
    name = f"latency-{slug(histogram.operation)}"
    desc = f"{'; '.join(words for _, words in marks)}; {format.count(sum(histogram.counts))} requests in the bars"
    svg = plots.histogram(
        f"fig-{name}", title, desc, histogram.edges_ms, histogram.counts, marks, "milliseconds; bars: requests"
    )
    note = basis(shown)
    if histogram.num_beyond:
        note += (
            f" {format.plural(histogram.num_beyond, 'request')} took longer than the bars show, the longest "
            f"{format.amount(histogram.max_ms, 'ms')}."
        )
    return figure(name, title, svg, desc, note, evidence, shown)


def _tables(evidence: Evidence) -> tuple[TableView, ...]:
    tables = []
    load = [m for name in LOAD_METRICS for m in evidence.measurements if m.name == name]
    if load:
        rows = [(what, "", value, "") for what, value in _load_settings(evidence) if value]
        rows += [(metric(m.name).title, _rate(m), format.number(m), format.counted(m)) for m in load]
        head = ("While requests keep arriving", "Rate", "Value and interval", "Samples")
        tables.append(TableView("Under load", head, tuple(rows)))
    tables += [t for t in (_batches(evidence, "throughput"), _batches(evidence, "energy"), _memory(evidence)) if t]
    return tuple(tables)


def _load_settings(evidence: Evidence) -> list[tuple[str, str]]:
    """What was requested, how, and what came of it; empty values where the evidence does not say."""
    facts = evidence.facts

    def per_second(name: str) -> str:
        return f"{format.digits(facts.number(name))} per second" if name in facts else ""

    how = ""
    if "load.seconds" in facts:
        arrivals = ARRIVALS.get(facts.text("load.arrivals"), "")
        how = (
            f"{format.slice_value('operation', facts.text('load.operation'))}, {arrivals} arrivals "
            f"for {duration(facts.number('load.seconds'))}, at most "
            f"{format.plural(facts.integer('load.max_in_flight'), 'request')} in flight"
        )
    return [
        ("Offered rate", per_second("load.offered_per_s")),
        ("Achieved rate", per_second("load.achieved_per_s")),
        ("Load", how),
    ]


def _batches(evidence: Evidence, name: str) -> TableView | None:
    """Rows by operation, columns by batch size."""
    found = {
        (m.slice.get("operation", ""), m.slice.get("batch", "")): m for m in evidence.measurements if m.name == name
    }
    if not found:
        return None
    batches = sorted({batch for _, batch in found}, key=lambda b: (len(b), b))
    operations = dict.fromkeys(operation for operation, _ in found)
    rows = tuple(
        (format.capital(format.slice_value("operation", o)), *(_cell(found.get((o, b))) for b in batches))
        for o in operations
    )
    title, unit = metric(name).title, next(iter(found.values())).unit
    caption = title if unit in title.lower() else f"{title}, {unit}"
    return TableView(caption, ("Operation", *(f"Batch of {b}" for b in batches)), rows)


def _cell(m: Measurement | None) -> str:
    if m is None:
        return UNKNOWN
    ends = f" ({format.digits(m.interval.low)}–{format.digits(m.interval.high)})" if m.interval else " (no interval)"
    return f"{format.digits(m.value)}{ends}, {format.counted(m)}"


def _memory(evidence: Evidence) -> TableView | None:
    scopes = {
        "measurement": "the peak during the measurement",
        "process": "the peak since the process started",
    }
    scope = scopes.get(evidence.facts.text("memory.scope"), "")
    rows = tuple(
        (metric(m.name).title, format.number(m), scope, format.counted(m))
        for m in evidence.measurements
        if m.name == "peak_memory"
    )
    return TableView("Memory", ("Metric", "Value", "Scope", "Samples"), rows) if rows else None


def _rate(m: Measurement) -> str:
    rate = m.slice.get("rate", "")
    return "half of its single-request rate" if rate == _OWN_RATE else f"{rate} per second"
