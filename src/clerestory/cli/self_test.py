"""``clerestory evaluate --self-test``: are silent regressions detected?"""

from __future__ import annotations

from collections import defaultdict

from rich.table import Table
from rich.text import Text

from clerestory.apps.loading import load_model
from clerestory.cli.output import Output
from clerestory.core.codec import encode
from clerestory.core.evidence import Evidence
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder, require_capability
from clerestory.report.format import number
from clerestory.stages.evaluate.findings import FAULT_MISSED
from clerestory.stats.rows import read_rows
from clerestory.store import Store

DETECTED, MISSED = Text("✓ detected", "green"), Text("– missed", "dim")
COUNTS = {"faults_caught": "faults detected by any gate", "false_alarms": "false alarms without a fault"}


def run_self_test(store: Store, ref: str, data: Dataset, out: Output) -> int:
    """Inject known faults into a copy of the model and print which gates detect them.

    Returns:
        The exit code: 1 when a fault is missed or there is a false alarm.
    """
    from clerestory.stages.evaluate.selftest import SelfTestConfig, self_test  # here, because it imports torch

    def load() -> Embedder:
        return require_capability(load_model(store, ref)[0], "Embedder", "the self-test")

    evidence = self_test(load(), data, SelfTestConfig(), store, reload=load, progress=out)
    missed = any(finding.code == FAULT_MISSED.code for finding in evidence.findings)
    lines = []
    for name, label in COUNTS.items():
        share = evidence.find(name, {})
        if share is not None:
            lines.append(f"{round(share.value * share.n)} of {share.n} {label} ({number(share)})")
    lines += [f"{finding.code} {finding.message}" for finding in evidence.findings]
    table = fault_table(evidence, store)
    out.result({"id": evidence.id, **encode(evidence)}, table, "", *lines, f"evidence  {evidence.id}")
    false_alarms = evidence.find("false_alarms", {})
    return 1 if missed or (false_alarms is not None and false_alarms.value > 0) else 0


def fault_table(evidence: Evidence, store: Store) -> Table:
    """One row for each fault, one column for each gate."""
    rows = read_rows(store.blobs.get(evidence.rows))
    detected: dict[str, dict[str, bool]] = defaultdict(dict)
    columns = (rows[name].tolist() for name in ("case", "description", "gate", "caught"))
    for case, fault, gate, caught in zip(*columns, strict=True):
        if case == "fault" and gate != "any":
            detected[fault][gate] = caught == 1.0
    gates = list(dict.fromkeys(gate for by_gate in detected.values() for gate in by_gate))
    table = Table("fault", *gates, box=None)
    for fault, by_gate in detected.items():
        table.add_row(fault, *(DETECTED if by_gate.get(gate) else MISSED for gate in gates))
    return table
