"""Comparison: this model beside another release of the same name."""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import TaskName
from clerestory.report import format
from clerestory.report.metric_figures import DIRECTIONS, recalls, splits_of
from clerestory.report.model import EVALUATION, ReportData
from clerestory.report.trust import with_trust
from clerestory.report.view import Chapter, TableView
from clerestory.stats.metrics import metric


def chapter(data: ReportData) -> Chapter | None:
    """The same measurements of both, side by side; None where there is no other release to compare with."""
    mine = data.evaluation
    if data.compared is None or data.release is None or mine is None:
        return None
    other = data.compared.release
    anchor, title, short = "comparison", f"Comparison: {data.name} beside {other.ref}", "Comparison"
    records = (r for r in reversed(data.compared.evidence) if r.evidence.kind == EVALUATION)
    theirs = next(records, None)
    if theirs is None:
        lead = f"The evaluation of {other.ref} is not in the store, so the two cannot be compared."
        return Chapter(anchor, title, short, 130, lead=lead)
    pairs = [(m, twin) for m in _headline(mine) if (twin := theirs.evidence.find(m.name, m.slice)) is not None]
    if not pairs:
        lead = f"{data.name} and {other.ref} have no measurement in common."
        return Chapter(anchor, title, short, 130, lead=lead)
    live = any(alias.alias == "live" and alias.number == other.number for alias in data.aliases)
    standing = " (refused)" if other.decision.verdict == "refuse" else " (live)" if live else ""
    head = ("Metric", f"{other.ref}{standing}", data.name, f"{data.name} is", "Samples")
    table = TableView(f"{data.name} beside {other.ref}", head, tuple(_row(m, twin) for m, twin in pairs))
    lead = (
        "“Better” and “worse” are stated only where the two intervals do not overlap, which is a cautious test. "
        f"{other.ref} was submitted to the gate on {format.when(other.when)} by {other.who}: “{other.why}”."
    )
    tables = (with_trust(table, [m for m, _ in pairs], data.diagnostics.trust),)
    return Chapter(anchor, title, short, 130, lead=lead, tables=tables)


def _headline(evidence: Evidence) -> list[Measurement]:
    """Recall at the largest k in both directions, and the caption similarity, on each split."""
    found: list[Measurement] = []
    for split in splits_of(evidence):
        for task in DIRECTIONS:
            found += recalls(evidence, {"task": task, "split": split})[-1:]
        similarity = evidence.find("chrf", {"task": TaskName.CAPTION, "split": split})
        found += [similarity] if similarity else []
    return found


def _row(m: Measurement, twin: Measurement) -> tuple[str, ...]:
    where = f"{metric(m.name).title}, {format.slice_words(m.slice)}"
    counts = " / ".join(dict.fromkeys((format.counted(twin), format.counted(m))))
    return where, format.of_hundred(twin), format.of_hundred(m), _outcome(m, twin), counts


def _outcome(m: Measurement, twin: Measurement) -> str:
    if m.interval is None or twin.interval is None or m.direction == "none":
        return "not compared"
    if m.interval.low > twin.interval.high:
        return "better" if m.direction == "higher" else "worse"
    if m.interval.high < twin.interval.low:
        return "worse" if m.direction == "higher" else "better"
    return "too close to call"
