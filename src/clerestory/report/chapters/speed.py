"""Is it fast: single requests, requests that keep coming, batches, memory?"""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import charts, format, metric_figures, plots
from clerestory.report.chapters.common import one, pick, why_not
from clerestory.report.charts import Wait
from clerestory.report.model import ReportData, Waiting
from clerestory.report.view import Chapter, Figure, Table

QUANTILES = (("latency_p50", "usual"), ("latency_p95", "slow"), ("latency_p99", "slowest"))
LOADS = ("load_p50", "load_p95", "load_p99", "goodput")


def waits(evidence: Evidence) -> tuple[Figure, ...]:
    """The usual and the slow wait for each operation."""
    found = [m for m in evidence.measurements if m.slice.get("task") == "latency"]
    usual = {m.slice.get("operation", ""): m for m in found if "50" in m.name}
    slow = {m.slice.get("operation", ""): m for m in found if "95" in m.name}
    both = [operation for operation in usual if operation in slow]
    if not both:
        return ()
    rows = [
        Wait(
            format.slice_value("operation", o).capitalize(),
            usual[o].value,
            slow[o].value,
            f"usual {format.brief(usual[o])}, slow {format.brief(slow[o])}",
        )
        for o in both
    ]
    title = "How long one answer takes"
    unit = usual[both[0]].unit
    desc = "; ".join(f"{r.label}: {r.text}" for r in rows)
    svg = charts.waits("fig-speed", title, desc, rows, unit)
    shown = [m for o in both for m in (usual[o], slow[o])]
    note = (
        "The bar ends at the usual wait (half of the answers are faster), the line at the slow wait (nineteen of twenty"
        f" are faster), asked one at a time. In brackets: {metric_figures.interval_ends(shown)}. {metric_figures.basis(shown)}"
    )
    return (Figure("speed-waits", title, desc, svg, note, metric_figures.table(evidence, shown, title)),)


def chapter(data: ReportData) -> Chapter:
    """Histograms of single requests with their quantiles, and what a load made of them."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    title, short = "Is it fast?", "Speed"
    drawn = [_histogram(evidence, one_) for one_ in data.examined.waiting] if evidence else []
    figures = tuple(f for f in drawn if f is not None)
    tables = _tables(evidence) if evidence else ()
    absent = () if figures or tables else (why_not(evidence, "speed", data.name, "Its speed was not examined."),)
    lead = "Asked one at a time, on the machine that examined it. Upright lines are the waits that half, nineteen of "
    lead += "twenty, and ninety-nine of a hundred answers stay within."
    answer = _answer(evidence) if evidence else ""
    return Chapter("speed", title, short, answer, lead if figures else "", figures, tables=tables, absent=absent)


def _answer(evidence: Evidence) -> str:
    usual = pick(evidence, "latency_p50", "operation", task="latency")
    parts = [
        f"{format.slice_value('operation', m.slice['operation'])} takes {format.amount(m.value, m.unit)}" for m in usual
    ]
    good = next((m for m in evidence.measurements if m.name == "goodput"), None)
    text = f"Usually {format.listing(parts)}." if parts else ""
    if good is not None:
        slo = evidence.facts.get("load_slo", "the time promised")
        text += f" While requests keep coming, {100 * good.value:.0f} of 100 are answered within {slo}."
    return text.strip()


def _histogram(evidence: Evidence | None, waiting: Waiting) -> Figure | None:
    if evidence is None:
        return None
    known = [
        (words, m)
        for name, words in QUANTILES
        if (m := one(evidence, name, task="latency", operation=waiting.operation))
    ]
    if not known:
        return None
    shown = [m for _, m in known]
    title = format.slice_value("operation", waiting.operation).capitalize()
    marks = [(m.value, f"{words} {format.amount(m.value, m.unit)} ({m.name[8:]})") for words, m in known]
    name = f"waits-{metric_figures.slug(waiting.operation)}"
    desc = f"{'; '.join(words for _, words in marks)}; {format.count(sum(waiting.counts))} requests in the bars"
    svg = plots.histogram(
        f"fig-{name}", title, desc, waiting.edges, waiting.counts, marks, "milliseconds; bars: requests"
    )
    note = f"{metric_figures.basis(shown)}"
    if waiting.beyond:
        note += (
            f" {format.plural(waiting.beyond, 'request')} took longer than the bars reach, the longest "
            f"{format.amount(waiting.longest, 'ms')}."
        )
    return Figure(name, title, desc, svg, note, metric_figures.table(evidence, shown, title))


def _tables(evidence: Evidence) -> tuple[Table, ...]:
    tables = []
    loads = [m for name in LOADS for m in evidence.measurements if m.name == name]
    if loads:
        facts = [
            ("Asked for", evidence.facts.get("load_asked", "")),
            ("Achieved", evidence.facts.get("load_achieved", "")),
        ]
        facts.append(("How", evidence.facts.get("load", "")))
        rows = [(what, "", value, "") for what, value in facts if value]
        rows += [(format.metric(m.name).title, _rate(m), format.number(m), format.counted(m)) for m in loads]
        head = ("While requests keep coming", "Rate", "Value and interval", "Counted on")
        tables.append(Table("Under load", head, tuple(rows)))
    tables += [t for t in (_busy(evidence, "throughput"), _busy(evidence, "energy"), _memory(evidence)) if t]
    return tuple(tables)


def _busy(evidence: Evidence, name: str) -> Table | None:
    """Rows by operation, columns by how many are asked for at once."""
    found = {
        (m.slice.get("operation", ""), m.slice.get("batch", "")): m for m in evidence.measurements if m.name == name
    }
    if not found:
        return None
    batches = sorted({batch for _, batch in found}, key=lambda b: (len(b), b))
    operations = dict.fromkeys(operation for operation, _ in found)
    rows = tuple(
        (format.slice_value("operation", o).capitalize(), *(_busy_cell(found.get((o, b))) for b in batches))
        for o in operations
    )
    words = format.metric(name)
    unit = next(iter(found.values())).unit
    caption = words.title if unit in words.title.lower() else f"{words.title}, {unit}"
    return Table(caption, ("What", *(f"{b} at once" for b in batches)), rows)


def _busy_cell(m: Measurement | None) -> str:
    if m is None:
        return "—"
    ends = f" ({format.digits(m.interval.low)}–{format.digits(m.interval.high)})" if m.interval else " (no interval)"
    return f"{format.digits(m.value)}{ends}, {format.counted(m)}"


def _memory(evidence: Evidence) -> Table | None:
    rows = tuple(
        (format.metric(m.name).title, format.number(m), evidence.facts.get(m.name, ""), format.counted(m))
        for m in evidence.measurements
        if m.name == "peak_memory"
    )
    return Table("Memory", ("What", "Value", "How", "Counted on"), rows) if rows else None


def _rate(m: Measurement) -> str:
    rate = m.slice.get("rate", "")
    if rate == "half its own":
        return "half of what it manages one by one"
    return f"{rate} per second" if rate.replace(".", "").isdigit() else rate
