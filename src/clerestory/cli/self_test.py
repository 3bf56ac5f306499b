"""``clerestory evaluate --self-test``: would a silent regression be noticed?"""

from __future__ import annotations

from collections import defaultdict

from rich.table import Table
from rich.text import Text

from clerestory.apps.loading import load_model
from clerestory.cli.output import Output
from clerestory.core.codec import encode
from clerestory.core.evidence import Evidence
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder, need
from clerestory.report.format import number
from clerestory.stages.evaluate.selftest import SelfTestConfig, self_test
from clerestory.stats.rows import read_rows
from clerestory.store import Store

SPOKE, SILENT = Text("✓ noticed", "green"), Text("– silent", "dim")


def run_self_test(store: Store, ref: str, pictures: Dataset, out: Output) -> int:
    """Put known faults into a copy, and say which gates notice; exit code 1 when a fault goes unnoticed."""

    def opened() -> Embedder:
        return need(load_model(store, ref)[0], "Embedder", "the self-test")

    evidence = self_test(opened(), pictures, SelfTestConfig(), store, reload=opened, progress=out)
    missed = [finding for finding in evidence.findings if finding.code == "CLR-E031"]
    table, told = fault_table(evidence, store), []
    for name, words in (("faults_caught", "faults noticed by any gate"), ("false_alarms", "alarms without any fault")):
        found = evidence.find(name, {})
        if found is not None:
            told.append(f"{round(found.value * found.n)} of {found.n} {words} ({number(found)})")
    notes = [f"{f.code} {f.message}" for f in evidence.findings]
    false_alarms = evidence.find("false_alarms", {})
    out.result({"id": evidence.id, **encode(evidence)}, table, "", *told, *notes, f"evidence  {evidence.id}")
    return 1 if missed or (false_alarms is not None and false_alarms.value > 0) else 0


def fault_table(evidence: Evidence, store: Store) -> Table:
    """One line per fault, one column per gate."""
    rows = read_rows(store.blobs.get(evidence.rows))
    said: dict[str, dict[str, bool]] = defaultdict(dict)
    for case, words, gate, caught in zip(
        *(rows[n].tolist() for n in ("case", "description", "gate", "caught")), strict=True
    ):
        if case == "fault" and gate != "any":
            said[words][gate] = caught == 1.0
    gates = list(dict.fromkeys(gate for marks in said.values() for gate in marks))
    table = Table("what goes wrong", *gates, box=None)
    for words, marks in said.items():
        table.add_row(words, *(SPOKE if marks.get(gate) else SILENT for gate in gates))
    return table
