"""What an evaluation found, short enough to read: the main numbers by the question they answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from clerestory.core.evidence import Evidence, Finding, Measurement
from clerestory.report.format import metric, number, slice_words
from clerestory.store import Store

# For each question the measurements that answer it, in the order they are shown.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "How good is it?": ("recall@1", "recall@10", "accuracy", "chrf", "ece"),
    "Does it stay good?": ("shift_gap", "robust_accuracy", "mce", "relative_mce", "effective_robustness", "ood_auroc"),
    "Is it fair?": ("worst_group", "largest_gap", "equalised_odds", "ndkl"),
    "How fast, at what cost?": (
        "latency_p50",
        "latency_p95",
        "load_p95",
        "throughput",
        "peak_memory",
        "energy",
        "cost_per_1000",
        "cost_per_1000_correct",
    ),
    "Does it look at the picture?": ("blind_gain", "blind_solvable"),
}
PLAIN_SLICE = {"task", "split", "operation", "of"}
ONE_SPLIT = ("How good is it?", "Is it fair?", "How fast, at what cost?", "Does it look at the picture?")
OOD_SCORES = ("mcm", "max_logit")
TRUST = {"yes": ("✓ yes", "green"), "careful": ("? with care", "yellow"), "no": ("✗ no", "red")}
WARNINGS = 6


def trust_labels(evidence: Evidence, store: Store) -> dict[str, Any]:
    """The label of each benchmark, ``task/split``; empty where nothing was judged."""
    held = evidence.artifacts.get("trust", "")
    labels: dict[str, Any] = json.loads(store.blobs.get(held)) if held else {}
    return labels


def summary(evidence: Evidence, labels: Mapping[str, Any]) -> list[str | Text | Table]:
    """A table of the main numbers with their intervals, whether to believe each benchmark, and the first warnings."""
    shown: list[str | Text | Table] = []
    for question, names in QUESTIONS.items():
        some = chosen(question, names, evidence.measurements)
        if some:
            shown += [Text(f"\n{question}", "bold"), _table(some, labels)]
    doubts = [(name, label) for name, label in labels.items() if label["trust"] != "yes"]
    if labels:
        shown.append(Text("\nCan these benchmarks be believed?", "bold"))
        shown.append(_doubts(doubts) if doubts else "nothing was found against any of them")
    return [*shown, *warnings(evidence.findings)]


def chosen(question: str, names: Sequence[str], measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements that answer a question, without finer slices, on the first split where one says enough."""
    some = [m for name in names for m in measurements if m.name == name and _plain(m, question)]
    first = next((m.slice["split"] for m in measurements if "split" in m.slice), "")
    own = {m.slice.get("task", "") for m in some if m.slice.get("split", first) == first}
    if question in ONE_SPLIT:
        # A task of one's own may have another split than the rest.
        some = [m for m in some if m.slice.get("split", first) == first or m.slice.get("task", "") not in own]
    return some


def everything(evidence: Evidence) -> Table:
    """Every measurement, one a line."""
    table = Table("what", "value and 95 % interval", "n", "on", box=None)
    for measurement in evidence.measurements:
        table.add_row(measurement.name, number(measurement), f"{measurement.n:,}", str(measurement.slice))
    return table


def warnings(findings: Sequence[Finding], most: int = WARNINGS) -> list[Text]:
    """The first warnings in full, and how many more findings there are."""
    grave = [f for f in findings if f.severity != "info" and not f.where.startswith("benchmark ")]
    told: dict[tuple[str, str], list[str]] = {}
    for f in grave:
        told.setdefault((f.code, f.message), []).append(f.where)
    shown = list(told.items())[:most]
    lines = [Text(f"{code}{_first_place(code, places)}: {message}", "yellow") for (code, message), places in shown]
    rest = len(findings) - len(lines)
    return [Text(""), *lines, Text(f"{rest} more findings; --all prints everything", "dim")] if findings else []


def _first_place(code: str, places: Sequence[str]) -> str:
    """Where in the data the first was found and how many more; what is found of a model names its place itself."""
    if not code.startswith("CLR-D"):
        return ""
    return f" {places[0]}" + (f" and {len(places) - 1} more" if len(places) > 1 else "")


def _plain(m: Measurement, question: str) -> bool:
    extra = set(m.slice) - PLAIN_SLICE
    if question == "Is it fair?":
        return extra <= {"group", "k"}
    if m.name == "cost_per_1000":
        # What one request costs is the same for every task; whole batches are in --all.
        return m.slice.get("batch") == "1"
    if question == "How fast, at what cost?":
        return extra <= {"rate"}
    if m.name == "ood_auroc":
        return m.slice.get("score") in OOD_SCORES[:1]
    return not extra or (m.name == "effective_robustness" and extra <= {"shift"})


def _table(some: Sequence[Measurement], labels: Mapping[str, Any]) -> Table:
    table = Table("", "value and 95 % interval", "n", "on", "believe it?", box=None, show_header=True)
    for m in some:
        label = labels.get(f"{m.slice.get('task', '')}/{m.slice.get('split', '')}")
        words, style = TRUST[label["trust"]] if label else ("", "")
        table.add_row(metric(m.name).title, shortly(m), f"{m.n:,}", slice_words(m.slice), Text(words, style))
    return table


def shortly(measurement: Measurement) -> str:
    """The number with its interval; why there is none is for ``--all``."""
    text = number(measurement)
    return text if measurement.interval else f"{text.split(' (no interval', 1)[0]} (no interval)"


def _doubts(doubts: Sequence[tuple[str, Any]]) -> Table:
    table = Table(box=None, show_header=False)
    for name, label in doubts:
        words, style = TRUST[label["trust"]]
        for place, reason in enumerate(label["reasons"]):
            table.add_row(Text("" if place else words, style), "" if place else name, reason["words"])
    return table
