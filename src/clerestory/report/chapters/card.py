"""The model card: every number with its interval, n and slice, by the question it answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from clerestory.core.evidence import Measurement
from clerestory.report import format
from clerestory.report.model import ReportData, Trust
from clerestory.report.trust import benchmark, label_of
from clerestory.report.trust import view as trust_view
from clerestory.report.view import CardPart, Chapter, NumberGroup, NumberView

QUESTIONS = {
    "find": "Can it find, sort and describe things?",
    "hold": "Does it hold up when things change?",
    "sure": "Does it know when it is unsure?",
    "fair": "Is it fair to groups?",
    "fast": "Is it fast, and what does it cost?",
    "trust": "Can the benchmark be trusted?",
}
_BY_NAME = {
    "find": ("median_rank", "map", "chrf", "cider", "clip_score"),
    "hold": ("mce", "relative_mce", "robust_accuracy", "effective_robustness", "shift_gap", "recall@10_loss", "ce"),
    "sure": ("ece", "ece_mass", "brier", "nll", "temperature", "ood_auroc", "ood_aupr_in", "ood_aupr_out", "ood_fpr95"),
    "fair": ("worst_group", "largest_gap", "equalised_odds", "ndkl"),
    "fast": ("goodput", "throughput", "peak_memory", "energy", "cost_per_1000", "cost_per_1000_correct"),
    "trust": ("blind_gain", "blind_solvable", "contamination", "contamination_gain", "accuracy_all_orders"),
}
_BLIND = ("blind", "shuffled_image", "majority")
_WHOLE = {"task", "split", "operation", "score", "scaled", "rate", "batch", "of", "benchmark"}


def question(m: Measurement) -> str:
    """Which of the questions a measurement answers."""
    if m.slice.get("condition", "") in _BLIND:
        return "trust"
    for key, names in _BY_NAME.items():
        if m.name in names:
            return key
    if m.name.startswith(("latency_", "load_")):
        return "fast"
    if m.name.startswith("max_skew"):
        return "fair"
    if {"condition", "severity"} & set(m.slice):
        return "hold"
    return "fair" if {"group", "value"} <= set(m.slice) else "find"


def card(data: ReportData, chapters: Mapping[str, Chapter], first: str = "") -> tuple[CardPart, ...]:
    """Every measurement of the examination, grouped by question and by benchmark.

    Args:
        data: what is known.
        chapters: by anchor; their sentences sum up the questions.
        first: one more sentence for the first of them.
    """
    held = data.of_kind("evaluate")
    if held is None:
        return ()
    by: dict[str, list[Measurement]] = defaultdict(list)
    for m in held.evidence.measurements:
        by[question(m)].append(m)
    said = {
        "find": f"{first} {_join(chapters, 'sorting')}".strip(),
        "hold": _join(chapters, "robustness"),
        "sure": _join(chapters, "certainty"),
        "fair": _join(chapters, "groups"),
        "fast": _join(chapters, "speed", "cost"),
        "trust": _join(chapters, "trust"),
    }
    return tuple(
        CardPart(f"card-{key}", words, said[key], len(by[key]), _groups(by[key], data.examined.trust))
        for key, words in QUESTIONS.items()
    )


def _join(chapters: Mapping[str, Chapter], *anchors: str) -> str:
    told = [chapters[a].answer or next((x.words for x in chapters[a].absent), "") for a in anchors if a in chapters]
    return " ".join(t for t in told if t)


def _groups(found: Sequence[Measurement], trust: Sequence[Trust]) -> tuple[NumberGroup, ...]:
    by: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for m in found:
        by[benchmark(m)].append(m)
    groups = []
    for (task, split), some in by.items():
        where = {"task": task, "split": split}
        title = format.slice_words({k: v for k, v in where.items() if v}) or "Everything"
        label = label_of(trust, task, split)
        shown = tuple(_number(m, set(where)) for m in some)
        groups.append(NumberGroup(title[:1].upper() + title[1:], shown, trust_view(label) if label else None))
    return tuple(groups)


def _number(m: Measurement, told: set[str]) -> NumberView:
    where = format.slice_words({k: v for k, v in m.slice.items() if k not in told}) or "all of it"
    return NumberView(
        format.metric(m.name).title, m.name, where, format.number(m), format.counted(m), bool(set(m.slice) - _WHOLE)
    )
