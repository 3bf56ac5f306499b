"""Benchmarks on which a model is no better than guessing."""

from __future__ import annotations

from collections.abc import Iterator

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report.metric_figures import chance, k_of
from clerestory.report.model import ReportData
from clerestory.report.trust import benchmark
from clerestory.report.vocabulary import TASK_TERMS

CLASSIFIERS = ("zero_shot", "knn", "linear_probe")
AUROC_OF_GUESSING = 0.5


def at_chance(m: Measurement, level: float | None) -> bool:
    """Whether a measurement is no better than guessing: the lower bound of its interval does not exceed chance."""
    if level is None or m.direction != "higher":
        return False
    return (m.interval.low if m.interval else m.value) <= level


def chance_level(data: ReportData, evidence: Evidence, m: Measurement) -> float | None:
    """What guessing would reach, None where the evidence does not say."""
    task, split = m.slice.get("task", ""), m.slice.get("split", "")
    if k_of(m):
        return chance(evidence, m)
    if m.name.startswith("auroc"):
        return AUROC_OF_GUESSING
    if m.name != "accuracy":
        return None
    known = (c.value for c in data.diagnostics.chance_levels if c.slice["task"] == task and c.slice["split"] == split)
    classes = evidence.facts.integer("classes.count") if task in CLASSIFIERS else 0
    return next(known, 1 / classes if classes else None)


def benchmarks_at_chance(data: ReportData) -> tuple[str, ...]:
    """The benchmarks on which nothing that was measured is better than guessing: ``image to text (test)``."""
    evidence = data.evaluation
    if evidence is None:
        return ()
    by: dict[tuple[str, str], list[bool]] = {}
    for key, guessing in _judged(data, evidence):
        by.setdefault(key, []).append(guessing)
    return tuple(
        f"{TASK_TERMS.get(task, task.replace('_', ' '))} ({split})" for (task, split), all_ in by.items() if all(all_)
    )


def _judged(data: ReportData, evidence: Evidence) -> Iterator[tuple[tuple[str, str], bool]]:
    for m in evidence.measurements:
        whole = {"task", "split"} <= set(m.slice) <= {"task", "split", "score"}
        level = chance_level(data, evidence, m) if whole else None
        if level is not None:
            yield benchmark(m), at_chance(m, level)
