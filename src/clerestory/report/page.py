"""The whole page from what is known of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from clerestory.core.digest import short
from clerestory.report import format, headline, metric_figures
from clerestory.report.chapters import (
    audit_trail,
    baseline_table,
    benchmark_validity,
    calibration,
    classification,
    cost,
    dataset,
    examples,
    experts,
    fairness,
    robustness,
    self_test,
    speed,
    training_curves,
)
from clerestory.report.chapters.card import card
from clerestory.report.model import Held, ReportData, Trust
from clerestory.report.trust import labels
from clerestory.report.trust import view as trust_view
from clerestory.report.view import Chapter, Figure, Highlight, Page

CHAPTERS = (classification, robustness, calibration, fairness, speed, cost, benchmark_validity, self_test)
_CHANGED = {
    "code": "by other code than is installed now",
    "environment": "with other library versions or on another kind of machine",
}


def build(data: ReportData) -> Page:
    """Everything the page shows, from everything that is known; nothing else enters."""
    held = data.of_kind("evaluate")
    evidence = held.evidence if held else None
    comparison, comparison_note = baseline_table.comparison(data)
    findings, findings_note = audit_trail.noticed(data.findings, bool(data.examined.trust))
    highlights = headline.highlights(data)
    chapters = tuple(_marked(each.chapter(data), data.examined.trust) for each in CHAPTERS)
    inside = experts.chapter(data)
    return Page(
        title=f"{data.name}: may it ship?",
        ref=data.name,
        model=data.model,
        answer=headline.answer(data),
        highlights=highlights,
        notices=_notices(data),
        policy=data.release.decision.policy if data.release else "",
        reasons=headline.reasons(data),
        learning=training_curves.figures(data.training) if data.training else (),
        learning_note=training_curves.note(data),
        quality=_labelled(metric_figures.recall_figures(evidence) if evidence else (), data.examined.trust),
        weak=_labelled(metric_figures.slice_figures(evidence) if evidence else (), data.examined.trust),
        captions=_labelled(metric_figures.caption_figures(evidence) if evidence else (), data.examined.trust),
        speed=speed.waits(evidence) if evidence else (),
        examples=examples.asked(data.examples),
        written=examples.captioned(data.written),
        comparison=comparison,
        comparison_note=comparison_note,
        findings=findings,
        findings_note=findings_note,
        data=dataset.summary(data.data) if data.data else None,
        evidence=tuple(audit_trail.evidence(each, each is held) for each in _rested_on(data)),
        history=audit_trail.history(data),
        journal=tuple(audit_trail.record(entry) for entry in data.journal[: audit_trail.MOST_JOURNAL]),
        journal_note=audit_trail.journal_note(data.journal),
        check=f"clerestory release verify {data.release.ref}" if data.release else "",
        chapters=chapters,
        inside=inside,
        card=card(data, {chapter.anchor: chapter for chapter in chapters}, _first(highlights)),
    )


def _rested_on(data: ReportData) -> tuple[Held, ...]:
    """Every piece of evidence that a number on the page comes from."""
    return data.evidence + ((data.self_test.held,) if data.self_test else ())


def _first(highlights: tuple[Highlight, ...]) -> str:
    """The first of the big numbers as a sentence."""
    if not highlights:
        return ""
    h = highlights[0]
    return f"{h.text} ({h.between}) {h.meaning}" if h.between else f"{h.text} {h.meaning}"


def _marked(chapter: Chapter, trust: tuple[Trust, ...]) -> Chapter:
    return replace(chapter, figures=_labelled(chapter.figures, trust), more=_labelled(chapter.more, trust))


def _labelled(figures: Iterable[Figure], trust: tuple[Trust, ...]) -> tuple[Figure, ...]:
    """Figures with the labels of the benchmarks that they show."""
    return tuple(replace(f, trust=tuple(trust_view(t) for t in labels(trust, f.benchmarks))) for f in figures)


def _notices(data: ReportData) -> tuple[str, ...]:
    stale = [
        f"The {format.kind(h.evidence.kind)} {short(h.id)} was made {_changed(h.changed)}: {_means(h.evidence.kind)}"
        for h in data.evidence
        if h.changed
    ]
    return tuple(stale) + tuple(f"Not shown: {m.rstrip('.')}." for m in data.missing)


def _means(kind: str) -> str:
    """What follows when a piece of evidence was made otherwise than it would be now."""
    if kind == "train":  # the model is the same to the byte, and so is what is measured of it
        return "trained again, it would be another model. What was measured of this one holds."
    return "it is out of date, and so is what rests on it."


def _changed(names: tuple[str, ...]) -> str:
    return format.listing([_CHANGED.get(name, f"for another {name}") for name in names])
