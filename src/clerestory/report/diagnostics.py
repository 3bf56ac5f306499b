"""What the stored rows and files of an examination say besides its measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Measurement, Recipe
from clerestory.report.model import Bin, Diagram, Fault, Held, SelfTest, Waiting
from clerestory.stats.aggregate import Rows, measure

BINS = 24
# Rare long waits are counted beyond the last bin, so that the usual ones can be told apart.
SHOWN = 0.99
BASELINE, GUESSING, K = "baseline accuracy", "guessing", 10
ANY_GATE = "any"
FINDING, SORTING = "image_to_text", "zero_shot"


def read_diagrams(content: bytes) -> tuple[Diagram, ...]:
    """Read the artifact ``reliability``.

    Raises:
        ValueError, KeyError, TypeError: it is not of this form.
    """
    return tuple(_diagram(one) for one in json.loads(content))


def _diagram(one: Mapping[str, Any]) -> Diagram:
    bins = tuple(
        Bin(
            float(b["low"]),
            float(b["high"]),
            int(b["n"]),
            float(b["confidence"]),
            float(b["accuracy"]),
            (float(b["interval"][0]), float(b["interval"][1])),
        )
        for b in one["bins"]
    )
    return Diagram(one["task"], one["split"], one["scaled"] == "yes", bins)


def count_waits(rows: Rows) -> tuple[Waiting, ...]:
    """Histograms of the single requests, one for each operation, in the order they were timed."""
    if not {"task", "operation", "ms"} <= set(rows):
        return ()
    timed = np.asarray(rows["task"] == "latency") & ~np.isnan(rows["ms"])
    operations = dict.fromkeys(rows["operation"][timed].tolist())
    return tuple(_waiting(name, rows["ms"][timed & (rows["operation"] == name)]) for name in operations)


def _waiting(operation: str, ms_N: NDArray[np.float64]) -> Waiting:
    low, high = float(ms_N.min()), float(np.quantile(ms_N, SHOWN))
    if not high > low:
        high = low + max(1e-3, 0.01 * low)
    counts, edges = np.histogram(ms_N[ms_N <= high], BINS, (low, high))
    return Waiting(
        operation, tuple(edges.tolist()), tuple(counts.tolist()), int((ms_N > high).sum()), float(ms_N.max())
    )


def by_severity(rows: Rows) -> tuple[Measurement, ...]:
    """Recall@10 and accuracy at each severity over all corruptions, and the baseline's accuracy everywhere.

    The recipe of each is that of the evidence's own measurements, over other rows of the same table.
    """
    if not {"task", "split", "severity", "condition"} <= set(rows):
        return ()
    damaged = np.asarray(rows["severity"] != "")
    splits = dict.fromkeys(rows["split"][damaged].tolist())
    severities = sorted(dict.fromkeys(rows["severity"][damaged].tolist()))
    conditions = dict.fromkeys(rows["condition"][damaged].tolist())
    found: list[Measurement] = []
    for split in splits:
        base = {"task": "corruption_base", "split": split}
        told = {"task": SORTING, "split": split}
        found += _try(rows, "accuracy", "mean", "score", base)
        found += _try(rows, BASELINE, "mean", "reference", base)
        for severity in severities:
            found += _try(rows, f"recall@{K}", "share_at_most", "rank", {"task": FINDING, "split": split}, severity)
            found += _try(rows, "accuracy", "mean", "score", told, severity)
            found += _try(rows, BASELINE, "mean", "reference", told, severity)
            for condition in conditions:
                found += _try(rows, BASELINE, "mean", "reference", {**told, "condition": condition}, severity)
    return tuple(found)


def guesses(rows: Rows) -> tuple[Measurement, ...]:
    """What guessing would reach on each benchmark whose rows say what it is for every question."""
    if not {"task", "split", "condition", "chance"} <= set(rows):
        return ()
    known = np.asarray(rows["condition"] == "clean") & ~np.isnan(rows["chance"])
    pairs = dict.fromkeys(zip(rows["task"][known].tolist(), rows["split"][known].tolist(), strict=True))
    found: list[Measurement] = []
    for task, split in pairs:
        found += _try(rows, GUESSING, "mean", "chance", {"task": task, "split": split, "condition": "clean"})
    return tuple(found)


def _try(
    rows: Rows, name: str, statistic: str, column: str, where: Mapping[str, str], severity: str = ""
) -> list[Measurement]:
    slice_ = Tags({**where, **({"severity": severity} if severity else {})})
    if column not in rows:
        return []
    try:
        return [measure(rows, Recipe(statistic, column, slice_, "concept", float(K)), name, slice_)]
    except InputError:  # nothing was scored there, so there is nothing to draw
        return []


def read_self_test(held: Held, rows: Rows) -> SelfTest:
    """Faults against gates, from the rows of evidence of kind ``self_test``."""
    cases: dict[str, tuple[str, dict[str, bool]]] = {}
    rebuilds = alarms = 0
    columns = (rows[name].tolist() for name in ("case", "name", "words", "gate", "caught"))
    for case, name, words, gate, caught in zip(*columns, strict=True):
        if case == "fault":
            cases.setdefault(name, (words, {}))[1][gate] = bool(caught)
        elif gate == ANY_GATE:
            rebuilds, alarms = rebuilds + 1, alarms + bool(caught)
    gates = tuple(dict.fromkeys(gate for _, said in cases.values() for gate in said if gate != ANY_GATE))
    faults = tuple(
        Fault(name, words, tuple((gate, said.get(gate, False)) for gate in gates))
        for name, (words, said) in cases.items()
    )
    return SelfTest(held, gates, faults, rebuilds, alarms)
