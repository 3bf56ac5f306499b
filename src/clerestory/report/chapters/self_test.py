"""Fault detection: would a hidden fault be noticed?"""

from __future__ import annotations

from clerestory.core.evidence import Evidence
from clerestory.report import format
from clerestory.report.metric_figures import UNKNOWN
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter, Matrix, MatrixCell, NotMeasured, TableView

GATES = {
    "quality": "quality drops",
    "churn": "answers change",
    "fingerprint": "embeddings change",
    "labels": "labels change",
}
LEAD = "Each row is a fault injected into a copy of this model, each column a check that runs when a model changes."


def chapter(data: ReportData) -> Chapter:
    """Injected faults against gates, and false alarms."""
    title, short, tested = "Fault detection: would a hidden fault be noticed?", "Fault detection", data.self_test
    if tested is None:
        words = "No self-test was run: it injects faults into a copy of the model and checks that they are detected."
        absent = NotMeasured(words, f"clerestory evaluate {data.name} --self-test")
        return Chapter("self-test", title, short, 120, absent=(absent,))
    rows = tuple(
        (
            format.capital(fault.description),
            (*(_cell(caught) for _, caught in fault.detections), _overall(any(c for _, c in fault.detections))),
        )
        for fault in tested.faults
    )
    head = ("Fault", *(GATES.get(gate, gate) for gate in tested.gates), "any check")
    caught = sum(any(c for _, c in fault.detections) for fault in tested.faults)
    answer = (
        f"{caught} of {len(tested.faults)} injected faults are detected; {tested.num_false_alarms} of "
        f"{tested.num_rebuilds} rebuilds without a fault raised a false alarm."
    )
    changed = tested.record.changed
    stale = (f"This self-test is out of date: {format.listing(changed)} changed since.",) if changed else ()
    sums = tuple(_row(tested.record.evidence, gate) for gate in ("", *tested.gates))
    table = TableView("Detection rate and false alarms", ("Check", "Faults detected", "False alarms", "Samples"), sums)
    return Chapter(
        "self-test", title, short, 120, answer=answer, lead=LEAD, tables=(table,), warnings=stale,
        matrix=Matrix("Injected faults and the checks that detect them", head, rows),
    )  # fmt: skip


def _cell(caught: bool) -> MatrixCell:
    return MatrixCell("yes", "detected") if caught else MatrixCell("plain", "not by this")


def _overall(caught: bool) -> MatrixCell:
    return MatrixCell("yes", "detected") if caught else MatrixCell("no", "missed")


def _row(evidence: Evidence, gate: str) -> tuple[str, ...]:
    where = {"gate": gate} if gate else {}
    found = [evidence.find(name, where) for name in ("faults_caught", "false_alarms")]
    values = [format.number(m) if m else UNKNOWN for m in found]
    counts = " / ".join(format.counted(m) for m in found if m)
    return (GATES.get(gate, gate) if gate else "any check", *values, counts or UNKNOWN)
