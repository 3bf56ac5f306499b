"""What the stored rows and artifacts of an evaluation say besides its measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Interval, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName
from clerestory.report.model import EvidenceRecord, FaultResult, LatencyHistogram, ReliabilityDiagram, SelfTestResult
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.calibration import ReliabilityBin

BINS = 24
# Rare long latencies are counted beyond the last bin, so that the usual ones can be told apart in the drawing.
QUANTILE_SHOWN = 0.99
BASELINE, CHANCE, K = "baseline_accuracy", "chance_accuracy", 10
ANY_GATE = "any"


def read_diagrams(content: bytes) -> tuple[ReliabilityDiagram, ...]:
    """Read the artifact ``reliability``.

    Raises:
        ValueError, KeyError, TypeError: it is not of this form.
    """
    return tuple(_diagram(one) for one in json.loads(content))


def _diagram(one: Mapping[str, Any]) -> ReliabilityDiagram:
    bins = tuple(
        ReliabilityBin(
            float(b["low"]),
            float(b["high"]),
            int(b["n"]),
            float(b["confidence"]),
            float(b["accuracy"]),
            Interval(float(b["interval"][0]), float(b["interval"][1]), "wilson"),
        )
        for b in one["bins"]
    )
    return ReliabilityDiagram(one["task"], one["split"], one["scaled"] == "yes", bins)


def latency_histograms(rows: Rows) -> tuple[LatencyHistogram, ...]:
    """Histograms of single requests, one for each operation, in the order they were timed."""
    if not {"task", "operation", "ms"} <= set(rows):
        return ()
    timed = np.asarray(rows["task"] == TaskName.LATENCY) & ~np.isnan(rows["ms"])
    operations = dict.fromkeys(rows["operation"][timed].tolist())
    return tuple(_histogram(name, rows["ms"][timed & (rows["operation"] == name)]) for name in operations)


def _histogram(operation: str, ms_N: NDArray[np.float64]) -> LatencyHistogram:
    low, high = float(ms_N.min()), float(np.quantile(ms_N, QUANTILE_SHOWN))
    if not high > low:
        high = low + max(1e-3, 0.01 * low)
    counts, edges = np.histogram(ms_N[ms_N <= high], BINS, (low, high))
    return LatencyHistogram(
        operation, tuple(edges.tolist()), tuple(counts.tolist()), int((ms_N > high).sum()), float(ms_N.max())
    )


def by_severity(rows: Rows) -> tuple[Measurement, ...]:
    """Recall@10 and accuracy at each severity over all corruptions, and the baseline's accuracy under each.

    The recipe of each is that of the evidence's own measurements, over other rows of the same table.
    """
    if not {"task", "split", "severity", "condition"} <= set(rows):
        return ()
    corrupted = np.asarray(rows["severity"] != "")
    splits = dict.fromkeys(rows["split"][corrupted].tolist())
    severities = sorted(dict.fromkeys(rows["severity"][corrupted].tolist()))
    conditions = dict.fromkeys(rows["condition"][corrupted].tolist())
    found: list[Measurement] = []
    for split in splits:
        clean: dict[str, str] = {"task": TaskName.CORRUPTION_BASELINE, "split": split}
        zero_shot: dict[str, str] = {"task": TaskName.ZERO_SHOT, "split": split}
        found += _try(rows, "accuracy", "mean", "score", clean)
        found += _try(rows, BASELINE, "mean", "reference", clean)
        for severity in severities:
            retrieval = {"task": TaskName.IMAGE_TO_TEXT, "split": split}
            found += _try(rows, f"recall@{K}", "share_at_most", "rank", retrieval, severity)
            found += _try(rows, "accuracy", "mean", "score", zero_shot, severity)
            found += _try(rows, BASELINE, "mean", "reference", zero_shot, severity)
            for condition in conditions:
                where = {**zero_shot, "condition": condition}
                found += _try(rows, BASELINE, "mean", "reference", where, severity)
    return tuple(found)


def chance_levels(rows: Rows) -> tuple[Measurement, ...]:
    """The accuracy of guessing on each benchmark whose rows state it for every item."""
    if not {"task", "split", "condition", "chance"} <= set(rows):
        return ()
    known = np.asarray(rows["condition"] == Condition.CLEAN) & ~np.isnan(rows["chance"])
    pairs = dict.fromkeys(zip(rows["task"][known].tolist(), rows["split"][known].tolist(), strict=True))
    found: list[Measurement] = []
    for task, split in pairs:
        found += _try(rows, CHANCE, "mean", "chance", {"task": task, "split": split, "condition": Condition.CLEAN})
    return tuple(found)


def _try(
    rows: Rows, name: str, statistic: str, column: str, where: Mapping[str, str], severity: str = ""
) -> list[Measurement]:
    slice_ = Tags({**where, **({"severity": severity} if severity else {})})
    if column not in rows:
        return []
    try:
        return [measure(rows, Recipe(statistic, column, slice_, CLUSTER_COLUMN, float(K)), name, slice_)]
    except InputError:  # nothing was scored there, so there is nothing to draw
        return []


def read_self_test(record: EvidenceRecord, rows: Rows) -> SelfTestResult:
    """Injected faults against gates, from the rows of evidence of kind ``self_test``."""
    cases: dict[str, tuple[str, dict[str, bool]]] = {}
    rebuilds = alarms = 0
    columns = (rows[name].tolist() for name in ("case", "name", "description", "gate", "caught"))
    for case, name, description, gate, caught in zip(*columns, strict=True):
        if case == "fault":
            cases.setdefault(name, (description, {}))[1][gate] = bool(caught)
        elif gate == ANY_GATE:
            rebuilds, alarms = rebuilds + 1, alarms + bool(caught)
    gates = tuple(dict.fromkeys(gate for _, said in cases.values() for gate in said if gate != ANY_GATE))
    faults = tuple(
        FaultResult(name, description, tuple((gate, said.get(gate, False)) for gate in gates))
        for name, (description, said) in cases.items()
    )
    return SelfTestResult(record, gates, faults, rebuilds, alarms)
