"""The measurements of a piece of evidence as its page shows them: by question and by benchmark, with its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format
from clerestory.report.chapters.card import QUESTIONS, question
from clerestory.report.model import Trust
from clerestory.report.trust import LABELS, STATES, benchmark, label_of, title
from clerestory.web import labels
from clerestory.web.interval_bar import Gauge, gauge

EXAMINATION = "evaluate"


@dataclass(frozen=True, slots=True)
class TrustView:
    """Whether a benchmark can be believed, in words, and why not."""

    state: labels.State
    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberView:
    """One measurement; ``where`` is its slice besides the benchmark it stands under."""

    measured: Measurement
    where: str
    gauge: Gauge


@dataclass(frozen=True, slots=True)
class BenchmarkView:
    """The measurements of one benchmark; ``trust`` is None where nobody judged it."""

    name: str
    trust: TrustView | None
    numbers: list[NumberView]


@dataclass(frozen=True, slots=True)
class QuestionView:
    """The measurements that answer one question."""

    words: str
    count: int
    benchmarks: list[BenchmarkView]


def trust_view(trust: Trust | None) -> TrustView | None:
    """A label as the pages show it."""
    if trust is None:
        return None
    tone = STATES[trust.label]
    return TrustView(labels.State(LABELS[trust.label], tone, tone), labels.capital(title(trust)), trust.reasons)


def trust_in(measured: Measurement, trust: Sequence[Trust]) -> TrustView | None:
    """The label of the benchmark that a measurement comes from."""
    return trust_view(label_of(trust, *benchmark(measured)))


def questions(found: Evidence, trust: Sequence[Trust]) -> list[QuestionView]:
    """All measurements, by question where it is an examination."""
    examined = found.kind.split(".")[0] == EXAMINATION
    by: dict[str, list[Measurement]] = {}
    for each in found.measurements:
        by.setdefault(question(each) if examined else "", []).append(each)
    order = [*QUESTIONS, ""]
    return [
        QuestionView(QUESTIONS.get(key, "Everything"), len(by[key]), _benchmarks(by[key], trust))
        for key in order
        if key in by
    ]


def _benchmarks(found: Sequence[Measurement], trust: Sequence[Trust]) -> list[BenchmarkView]:
    by: dict[tuple[str, str], list[Measurement]] = {}
    for each in found:
        by.setdefault(benchmark(each), []).append(each)
    views = []
    for (task, split), some in by.items():
        told = {name: value for name, value in (("task", task), ("split", split)) if value}
        name = labels.capital(format.slice_words(told)) or "Everything"
        numbers = [NumberView(each, _where(each), gauge(each, "soft")) for each in some]
        views.append(BenchmarkView(name, trust_view(label_of(trust, task, split)), numbers))
    return views


def _where(each: Measurement) -> str:
    rest = {name: value for name, value in each.slice.items() if name not in ("task", "split")}
    return format.slice_words(rest) or "all of it"
