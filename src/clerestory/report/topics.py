"""Measurements by topic: the question each one answers, and views of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from clerestory.core.evidence import Measurement
from clerestory.core.rows import ABLATIONS
from clerestory.report import format
from clerestory.report.model import BenchmarkTrust
from clerestory.report.trust import benchmark, label_of, trust_view
from clerestory.report.view import BenchmarkView, NumberView, TopicView
from clerestory.stats.metrics import Topic, metric

TOPICS: dict[Topic, str] = {
    "quality": "Quality: does it find, classify and describe correctly?",
    "robustness": "Robustness: does it hold up when conditions change?",
    "uncertainty": "Calibration: does it know when it is unsure?",
    "fairness": "Fairness: does it treat groups alike?",
    "efficiency": "Efficiency: how fast is it, and what does it cost?",
    "validity": "Benchmark validity: can the tests be trusted?",
    "training": "Training: how did it go?",
}
# Keys of a slice that still describe a whole task.
_WHOLE = {"task", "split", "operation", "score", "scaled", "rate", "batch", "of", "benchmark"}


def topic_of(m: Measurement) -> Topic:
    """The topic of a measurement: its metric's, unless its slice says that conditions or groups are compared."""
    topic = metric(m.name).topic
    if m.slice.get("condition", "") in ABLATIONS:
        return "validity"
    if topic != "quality":
        return topic
    if {"condition", "severity"} & set(m.slice):
        return "robustness"
    return "fairness" if {"group", "value"} <= set(m.slice) else "quality"


def topic_views(
    measurements: Sequence[Measurement],
    trust: Sequence[BenchmarkTrust],
    answers: Mapping[Topic, str] | None = None,
) -> tuple[TopicView, ...]:
    """All measurements by topic and benchmark; topics without a measurement are left out.

    Args:
        measurements: of a piece of evidence.
        trust: the labels of benchmarks.
        answers: a sentence that sums up each topic.
    """
    by: dict[Topic, list[Measurement]] = defaultdict(list)
    for m in measurements:
        by[topic_of(m)].append(m)
    return tuple(
        TopicView(f"numbers-{topic}", title, (answers or {}).get(topic, ""), len(by[topic]), _views(by[topic], trust))
        for topic, title in TOPICS.items()
        if topic in by
    )


def _views(some: Sequence[Measurement], trust: Sequence[BenchmarkTrust]) -> tuple[BenchmarkView, ...]:
    by: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for m in some:
        by[benchmark(m)].append(m)
    return tuple(_view(task, split, found, trust) for (task, split), found in by.items())


def _view(task: str, split: str, some: Sequence[Measurement], trust: Sequence[BenchmarkTrust]) -> BenchmarkView:
    title = format.slice_words({key: value for key, value in (("task", task), ("split", split)) if value})
    numbers = tuple(number_view(m) for m in some)
    return BenchmarkView(format.capital(title) or "Everything", numbers, trust_view(label_of(trust, task, split)))


def number_view(m: Measurement) -> NumberView:
    """One measurement in words; its slice without the benchmark."""
    rest = {key: value for key, value in m.slice.items() if key not in ("task", "split")}
    return NumberView(
        title=metric(m.name).title,
        name=m.name,
        slice=format.slice_words(rest) or "all of it",
        value=format.number(m),
        basis=format.counted(m),
        is_slice=bool(set(m.slice) - _WHOLE),
        measurement=m,
    )
