"""Retrieval by slice: where the model is strong and where it is weak."""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format
from clerestory.report.metric_figures import DIRECTIONS, MAX_BARS, WHOLE_TASK, bars, k_of, slug, table
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter, Figure
from clerestory.stats.metrics import metric

LEAD = "Recall for parts of the data (slices). Where two whiskers overlap, the difference may be due to chance."
_CONCEPT_SPLITS = {"train": "seen", "val": "validation", "test": "never seen", "none": "only here"}


def chapter(data: ReportData) -> Chapter | None:
    """Recall for every value of every group; None where no slice was measured."""
    figures = _figures(data.evaluation) if data.evaluation else ()
    if not figures:
        return None
    return Chapter("slices", "Slices: where is it strong, where weak?", "Slices", 20, lead=LEAD, figures=figures)


def _figures(evidence: Evidence) -> tuple[Figure, ...]:
    found: dict[tuple[str, str], dict[str, list[Measurement]]] = {}
    for m in evidence.measurements:
        extra = set(m.slice) - WHOLE_TASK
        is_slice = len(extra) == 1 and extra != {"condition"} and set(m.slice) >= WHOLE_TASK
        if k_of(m) and is_slice and m.slice["task"] in DIRECTIONS:
            place = found.setdefault((extra.pop(), m.slice["split"]), {})
            place.setdefault(m.slice["task"], []).append(m)
    order = sorted(found, key=lambda key: (key[0] != "style", key[0], key[1]))
    return tuple(_figure(evidence, key, split, found[key, split]) for key, split in order)


def _figure(evidence: Evidence, key: str, split: str, by_task: dict[str, list[Measurement]]) -> Figure:
    k = max(k_of(m) for found in by_task.values() for m in found)
    groups, shown, hidden = [], [], 0
    for task in (t for t in DIRECTIONS if t in by_task):
        found = sorted((m for m in by_task[task] if k_of(m) == k), key=lambda m: (-m.value, m.slice[key]))
        shown += found
        hidden += max(0, len(found) - MAX_BARS)
        labelled = [(_label(key, m.slice[key]), m) for m in found[:MAX_BARS]]
        groups.append((format.capital(format.slice_value("task", task)), labelled))
    title = f"By {_key(key)}, on {format.slice_value('split', split)}"
    note = f"{metric(f'recall@{k}').title}."
    if hidden:
        note += f" {format.plural(hidden, 'bar')} more in the table."
    name = f"by-{slug(key)}-{slug(split)}"
    drawn = bars(name, title, groups, evidence, note, f"of 100 queries, recall@{k}", with_n=True)
    return Figure(drawn.name, title, drawn.desc, drawn.svg, drawn.note, table(evidence, shown, title), drawn.benchmarks)


def _key(key: str) -> str:
    return {"concept_split": "whether the concept was seen in training"}.get(key, format.slice_key(key))


def _label(key: str, value: str) -> str:
    return _CONCEPT_SPLITS.get(value, value) if key == "concept_split" else format.slice_value(key, value)
