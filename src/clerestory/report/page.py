"""The whole page, from everything known about a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clerestory.core.digest import short
from clerestory.core.stage import import_object, stages
from clerestory.report import format, headline
from clerestory.report.approvals import approval_view
from clerestory.report.chapters import (
    audit_trail,
    baseline_table,
    benchmark_validity,
    calibration,
    captioning,
    classification,
    cost,
    dataset,
    examples,
    experts,
    fairness,
    retrieval,
    robustness,
    self_test,
    slices,
    speed,
    summary,
    training_curves,
)
from clerestory.report.chapters.provenance import provenance_view
from clerestory.report.model import TRAINING_KINDS, BenchmarkTrust, EvidenceRecord, ReportData
from clerestory.report.topics import topic_views
from clerestory.report.trust import trust_views
from clerestory.report.view import Chapter, Figure, Highlight, ReportPage, TopicView
from clerestory.stats.metrics import Topic

MakeChapter = Callable[[ReportData], Chapter | None]

CHAPTERS: tuple[MakeChapter, ...] = (
    retrieval.chapter,
    slices.chapter,
    examples.chapter,
    captioning.chapter,
    classification.chapter,
    robustness.chapter,
    calibration.chapter,
    fairness.chapter,
    speed.chapter,
    cost.chapter,
    benchmark_validity.chapter,
    self_test.chapter,
    baseline_table.chapter,
    training_curves.chapter,
    experts.chapter,
)
_CHANGED = {
    "code": "by a different version of the code",
    "environment": "with other library versions or on another kind of machine",
}


def build(data: ReportData) -> ReportPage:
    """Everything the page shows, from everything that is known; nothing else enters."""
    findings, findings_note = audit_trail.finding_views(data.findings, bool(data.diagnostics.trust))
    highlights = headline.highlights(data)
    chapters = build_chapters(data)
    provenance = provenance_view(data.components)
    notices = _notices(data)
    evaluation = data.evaluation
    return ReportPage(
        title=f"{data.name}: may it ship?",
        ref=data.name,
        model=data.model,
        decision=headline.with_licences(headline.decision(data), data, provenance.answer),
        summary=summary.summary_rows(data, provenance, highlights, chapters, notices),
        provenance=provenance,
        approval=approval_view(data.approval),
        highlights=highlights,
        notices=notices,
        policy=data.release.decision.policy if data.release else "",
        reasons=headline.reasons(data),
        chapters=chapters,
        topics=_topics(data, chapters, highlights),
        findings=findings,
        findings_note=findings_note,
        data=dataset.summary(data) if data.data else None,
        evidence=tuple(audit_trail.evidence_view(r, r.evidence is evaluation) for r in _evidence(data)),
        history=audit_trail.release_rows(data),
        journal=tuple(audit_trail.journal_row(entry) for entry in data.journal[: audit_trail.MAX_JOURNAL]),
        journal_note=audit_trail.journal_note(data.journal, data.num_records),
        verify_command=f"clerestory release verify {data.release.ref}" if data.release else "",
    )


def build_chapters(data: ReportData) -> tuple[Chapter, ...]:
    """The built-in chapters and those of the registered stages, in their order."""
    added: list[MakeChapter] = [import_object(path) for spec in stages().values() for path in spec.chapters]
    made = [chapter for make in (*CHAPTERS, *added) if (chapter := make(data)) is not None]
    return tuple(_with_trust(c, data.diagnostics.trust) for c in sorted(made, key=lambda c: c.order))


def _with_trust(chapter: Chapter, trust: tuple[BenchmarkTrust, ...]) -> Chapter:
    """A chapter whose figures carry the labels of the benchmarks they show."""

    def labelled(figures: tuple[Figure, ...]) -> tuple[Figure, ...]:
        return tuple(replace(f, trust=trust_views(trust, f.benchmarks)) for f in figures)

    return replace(chapter, figures=labelled(chapter.figures), more=labelled(chapter.more))


def _topics(
    data: ReportData, chapters: tuple[Chapter, ...], highlights: tuple[Highlight, ...]
) -> tuple[TopicView, ...]:
    """All measurements of the evaluation, each topic with the answers of its chapters."""
    if data.evaluation is None:
        return ()
    answers: dict[Topic, str] = {"quality": _sentence(highlights[0])} if highlights else {}
    for chapter in chapters:
        said = chapter.answer or next((absent.message for absent in chapter.absent), "")
        if chapter.topic and said:
            answers[chapter.topic] = f"{answers.get(chapter.topic, '')} {said}".strip()
    return topic_views(data.evaluation.measurements, data.diagnostics.trust, answers)


def _sentence(highlight: Highlight) -> str:
    interval = f" ({highlight.interval})" if highlight.interval else ""
    return f"{highlight.value}{interval} {highlight.meaning}"


def _evidence(data: ReportData) -> tuple[EvidenceRecord, ...]:
    """Every piece of evidence that a number on the page comes from."""
    return data.evidence + ((data.self_test.record,) if data.self_test else ())


def _notices(data: ReportData) -> tuple[str, ...]:
    stale = [
        f"The {format.kind(r.evidence.kind)} {short(r.id)} was produced {_changed(r.changed)}: "
        f"{_consequence(r.evidence.kind)}"
        for r in data.evidence
        if r.changed
    ]
    return (*summary.guessing(data), *stale) + tuple(f"Not shown: {m.rstrip('.')}." for m in data.missing)


def _consequence(kind: str) -> str:
    """What follows when a piece of evidence was produced in another way than it would be today."""
    if kind in TRAINING_KINDS:  # the model is the same to the byte, and so are its measurements
        return "training it again would give another model. The measurements of this one remain valid."
    return "it is out of date, and so is every conclusion from it."


def _changed(names: tuple[str, ...]) -> str:
    return format.listing([_CHANGED.get(name, f"for another {name}") for name in names])
