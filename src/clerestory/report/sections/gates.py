"""Would a hidden fault be noticed: the test of the gates."""

from __future__ import annotations

from clerestory.report import format
from clerestory.report.nouns import ReportData
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
    sums = tuple(
        (
            format.metric(m.name).title,
            GATES.get(m.slice.get("gate", ""), "any of them"),
            format.number(m),
            format.counted(m),
        )
        for m in evidence.measurements
    )
    tables = (Table("How often each check speaks", ("What", "Check", "Value and interval", "Counted on"), sums),)
    return Chapter(
        "gates", title, short, answer, lead, tables=tables if sums else (), warnings=stale,
        matrix=Matrix("Faults and the checks that notice them", head, rows),
    )  # fmt: skip


def _cell(noticed: bool) -> Cell:
    return Cell("yes", "noticed") if noticed else Cell("plain", "not by this")


def _any(noticed: bool) -> Cell:
    return Cell("yes", "noticed") if noticed else Cell("no", "missed")
