"""The summary on one page, for the person who signs."""

from __future__ import annotations

from clerestory.report import format
from clerestory.report.chance import benchmarks_at_chance
from clerestory.report.metric_figures import splits_of
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter, Highlight, ProvenanceView, SummaryRow

NO_BENCHMARK = "The validity of the benchmarks was not checked."


def summary_rows(
    data: ReportData,
    provenance: ProvenanceView,
    highlights: tuple[Highlight, ...],
    chapters: tuple[Chapter, ...],
    notices: tuple[str, ...],
) -> tuple[SummaryRow, ...]:
    """What a person who answers for the model must know, in the order of importance."""
    trust = next((chapter.answer for chapter in chapters if chapter.anchor == "validity"), "")
    skipped = tuple(chapter for chapter in chapters if not chapter.is_measured)
    results = tuple(" ".join(filter(None, (h.value, h.interval and f"({h.interval})", h.meaning))) for h in highlights)
    rows = [
        SummaryRow("Made from", provenance.lines, "made-from"),
        SummaryRow("Commercial use", (provenance.answer.text, *provenance.answer.sources), "made-from"),
        SummaryRow("Evaluated on", (evaluated_on(data),), "data"),
        SummaryRow("Results", results or ("This model was not evaluated.",), "measurements" if results else ""),
        SummaryRow("At chance level", guessing(data)),
        SummaryRow("Benchmarks", (trust or NO_BENCHMARK,), "validity" if trust else ""),
        SummaryRow("Not evaluated", skipped_line(skipped), "not-evaluated"),
        SummaryRow("Before you rely on it", notices),
    ]
    return tuple(row for row in rows if row.lines)


def evaluated_on(data: ReportData) -> str:
    """The data of the evaluation, and whether the model was trained on the same dataset."""
    if data.evaluation is None or data.data is None:
        return "No evaluation data is recorded."
    name = data.data.name or "a dataset that is not registered in this store"
    splits = format.listing(list(splits_of(data.evaluation)))
    where = f", on its split {splits}" if len(splits_of(data.evaluation)) == 1 else f", on its splits {splits}"
    trained = {part.digest for part in data.components if part.role == "training data"}
    if not trained:
        return f"{name}{where if splits else ''}."
    if data.data.digest in trained:
        return f"{name}{where if splits else ''}; the model was trained on another split of the same dataset."
    return f"{name}{where if splits else ''}. This is not the dataset it was trained on."


def guessing(data: ReportData) -> tuple[str, ...]:
    """One sentence on the benchmarks where the model is at chance level; empty if there are none."""
    names = benchmarks_at_chance(data)
    return (f"No better than guessing (chance level): {format.listing(names)}.",) if names else ()


def skipped_line(skipped: tuple[Chapter, ...]) -> tuple[str, ...]:
    """One line on everything that was not evaluated."""
    return (f"{format.listing([chapter.short.lower() for chapter in skipped])}.",) if skipped else ()
