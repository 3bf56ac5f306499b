"""Benchmark validity: can these numbers be trusted?"""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.rows import ABLATIONS, Condition
from clerestory.report import format
from clerestory.report.chapters.classification import TASKS
from clerestory.report.chapters.common import one, why_not
from clerestory.report.metric_figures import bars
from clerestory.report.model import ReportData
from clerestory.report.trust import benchmark, short_title, trust_view
from clerestory.report.view import Chapter, Figure, TableView
from clerestory.stats.metrics import metric

VIEWS: tuple[tuple[str, str], ...] = (
    ("", "with the picture"),
    (Condition.BLIND, "without it"),
    (Condition.SHUFFLED_IMAGE, "another picture"),
    (Condition.MAJORITY, "frequent answer"),
)
MAX_NAMED = 4
METRICS = (
    "not_understood", "blind_gain", "blind_solvable", "accuracy_all_orders", "contamination", "contamination_gain",
)  # fmt: skip
LEAD = (
    "A benchmark says little if it can be solved without the picture (blind-solvable), if it contains training "
    "pictures (contamination), or if it is too small to distinguish models. Each benchmark was checked for these."
)


def chapter(data: ReportData) -> Chapter:
    """Image ablations as bars, and each benchmark with its label and reasons."""
    title, short, evidence = "Benchmark validity: can these numbers be trusted?", "Validity", data.evaluation
    trust = data.diagnostics.trust
    figures = _figures(evidence, data.diagnostics.chance_levels) if evidence else ()
    absent = []
    if not trust:
        absent.append(why_not(evidence, "validity", data.name, "The validity of these benchmarks was not checked."))
    if not figures:
        words = "Visual question answering (VQA) with and without the picture was not measured."
        absent.append(why_not(evidence, "vqa", data.name, words))
    return Chapter(
        "validity", title, short, 110, "validity", _answer(data), LEAD if trust or figures else "", figures,
        tables=_tables(evidence) if evidence else (),
        trust=tuple(view for each in trust if (view := trust_view(each)) is not None), absent=tuple(absent),
    )  # fmt: skip


def _answer(data: ReportData) -> str:
    trust = data.diagnostics.trust
    if not trust:
        return ""
    by = {label: [short_title(t) for t in trust if t.label == label] for label in ("no", "careful", "yes")}
    total = len(trust)
    parts = [f"do not trust {_some(by['no'], total)}"] if by["no"] else []
    parts += [f"be careful with {_some(by['careful'], total)}"] if by["careful"] else []
    parts += [f"{'all' if len(by['yes']) == total else len(by['yes'])} can be trusted"] if by["yes"] else []
    return f"Of the {format.plural(total, 'benchmark')} used here, {'; '.join(parts)}."


def _some(names: list[str], total: int) -> str:
    """How many, and their names where they are few."""
    if len(names) == total > 1:
        return "all of them"
    return f"{len(names)}: {format.listing(names)}" if len(names) < MAX_NAMED else str(len(names))


def _ablated(evidence: Evidence) -> list[tuple[str, str]]:
    """The (task, split) that were also measured under an ablation."""
    found = (
        (m.slice["task"], m.slice["split"])
        for m in evidence.measurements
        if m.name == "accuracy"
        and m.slice.get("condition") in ABLATIONS
        and set(m.slice) == {"task", "split", "condition"}
    )
    return [key for key in dict.fromkeys(found) if key[0] not in TASKS]


def _figures(evidence: Evidence, chance_levels: Sequence[Measurement]) -> tuple[Figure, ...]:
    groups: list[tuple[str, list[tuple[str, Measurement]]]] = []
    for task, split in _ablated(evidence):
        found = [
            (label, m)
            for view, label in VIEWS
            if (m := one(evidence, "accuracy", task=task, split=split, **({"condition": view} if view else {})))
        ]
        found += [("chance level", m) for m in chance_levels if (m.slice["task"], m.slice["split"]) == (task, split)]
        groups.append((format.capital(format.slice_value("task", task)), found))
    if not groups:
        return ()
    note = (
        "A model that uses the picture loses its lead when the picture is removed or swapped. “Frequent answer” always "
        "gives the answer that is most often correct."
    )
    return (
        bars("blind", "What the picture adds (image ablation)", groups, evidence, note, "of 100 questions, correct"),
    )


def _tables(evidence: Evidence) -> tuple[TableView, ...]:
    shown = [m for name in METRICS for m in evidence.measurements if m.name == name]
    rows = tuple((metric(m.name).title, _where(m), format.number(m), format.counted(m)) for m in shown)
    head = ("Metric", "Measured on", "Value and interval", "Samples")
    return (TableView("Image ablation and contamination", head, rows),) if rows else ()


def _where(m: Measurement) -> str:
    if "benchmark" not in m.slice:
        return format.slice_words(m.slice)
    task, split = benchmark(m)
    return format.slice_words({"task": task, "split": split})
