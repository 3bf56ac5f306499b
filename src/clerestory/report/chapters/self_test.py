"""Would a hidden fault be noticed: the test of the gates."""

from __future__ import annotations

from clerestory.core.evidence import Evidence
from clerestory.report import format
from clerestory.report.model import ReportData
from clerestory.report.view import Absence, Cell, Chapter, Matrix, Table

GATES = {
    "quality": "quality drops",
    "churn": "answers change",
    "fingerprint": "embeddings move",
    "labels": "labels change",
}


def chapter(data: ReportData) -> Chapter:
    """Faults against gates, and false alarms."""
    title, short = "Would a hidden fault be noticed?", "Hidden faults"
    tested = data.self_test
    if tested is None:
        words = "Nobody has put faults into a copy of this model to see whether they are noticed."
        return Chapter("gates", title, short, absent=(Absence(words, f"clerestory evaluate {data.name} --self-test"),))
    rows = tuple(
        (
            format.sentence(fault.words)[:-1],
            (*(_cell(noticed) for _, noticed in fault.noticed), _any(any(n for _, n in fault.noticed))),
        )
        for fault in tested.faults
    )
    head = ("When …", *(GATES.get(gate, gate) for gate in tested.gates), "any of them")
    caught = sum(any(n for _, n in fault.noticed) for fault in tested.faults)
    total = len(tested.faults)
    answer = f"{caught} of {total} faults that were put in on purpose are noticed"
    answer += f"; {tested.alarms} of {tested.rebuilds} rebuilds without any fault raised a false alarm."
    lead = "Each row is a fault put into a copy of this model, each column a check that runs when a model changes."
    stale: tuple[str, ...] = ()
    if tested.held.changed:
        stale = (f"This test is out of date: other {format.listing(list(tested.held.changed))} than is in use now.",)
    evidence = tested.held.evidence
    sums = tuple(_row(evidence, gate) for gate in ("", *tested.gates))
    head_ = ("Check", "Faults noticed", "False alarms", "Counted on")
    tables = (Table("How often each check speaks", head_, sums),)
    return Chapter(
        "gates", title, short, answer, lead, tables=tables, warnings=stale,
        matrix=Matrix("Faults and the checks that notice them", head, rows),
    )  # fmt: skip


def _cell(noticed: bool) -> Cell:
    return Cell("yes", "noticed") if noticed else Cell("plain", "not by this")


def _any(noticed: bool) -> Cell:
    return Cell("yes", "noticed") if noticed else Cell("no", "missed")


def _row(evidence: Evidence, gate: str) -> tuple[str, ...]:
    where = {"gate": gate} if gate else {}
    found = [evidence.find(name, where) for name in ("faults_caught", "false_alarms")]
    told = [format.number(m) if m else "—" for m in found]
    counts = " / ".join(format.counted(m) for m in found if m)
    return (GATES.get(gate, gate) if gate else "any of them", *told, counts or "—")
