"""The dataset in numbers, and what its licences require."""

from __future__ import annotations

from clerestory.core.digest import short
from clerestory.core.evidence import Evidence
from clerestory.report import format
from clerestory.report.model import DatasetSummary, ReportData
from clerestory.report.view import DatasetView, TableView


def summary(known: ReportData) -> DatasetView:
    """What the dataset of the evaluation contains, as far as it was available."""
    data = known.data
    assert data is not None
    name = data.name or "the dataset"
    if not data.size:
        line = f"The evidence is about the dataset {short(data.digest)}, which is not registered in this store."
        return DatasetView(f"Dataset {short(data.digest)}", (line,), (), ())
    if not data.counted:
        line = f"{format.images(data.size)}; their details were not available when this report was made."
        return DatasetView(f"{name} ({short(data.digest)})", (line,), (), ())
    lines = [
        f"{format.images(data.size)} of {format.plural(data.concepts, 'concept')} with "
        f"{format.plural(data.captions, 'caption')} in {format.plural(len(data.languages), 'language')} "
        f"({', '.join(data.languages[:12])}{'…' if len(data.languages) > 12 else ''})."
    ]
    return DatasetView(
        f"{name} ({short(data.digest)})",
        tuple(lines),
        tuple(_licence_warnings(data)),
        _data_tables(data, known.evaluation),
    )


def _licence_warnings(data: DatasetSummary) -> list[str]:
    alike = [item for item in data.licences if format.share_alike(item.licence)]
    warnings = [
        f"Share-alike: {format.images(item.images)} under {item.licence}"
        + (f" ({format.listing([format.slice_value('style', s) for s in item.styles])})" if item.styles else "")
        + ". The model was evaluated on them; whoever publishes these pictures must pass on the same licence."
        for item in alike
    ]
    unknown = sum(item.images for item in data.licences if not item.licence)
    if unknown:
        warnings.append(f"{format.images(unknown)} without a recorded licence.")
    return warnings


def _data_tables(data: DatasetSummary, evaluation: Evidence | None) -> tuple[TableView, ...]:
    tables = []
    measured = {m.slice.get("split", "") for m in evaluation.measurements} if evaluation else set()
    if data.splits:
        rows = tuple(
            (
                s.name,
                "measured here" if s.name in measured else "not measured",
                format.count(s.images),
                format.count(s.concepts),
            )
            for s in data.splits
        )
        tables.append(TableView("Splits", ("Split", "In this evaluation", "Pictures", "Concepts"), rows))
    if data.styles:
        rows2 = tuple(
            (
                format.slice_value("style", s.name),
                format.count(s.images),
                ", ".join(n or "unknown" for n in s.licences),
            )
            for s in data.styles
        )
        tables.append(TableView("Styles", ("Style", "Pictures", "Licence"), rows2))
    if data.licences:
        rows3 = tuple(
            (item.licence or "unknown", format.count(item.images), format.licence_words(item.licence))
            for item in data.licences
        )
        tables.append(TableView("Licences", ("Licence", "Pictures", "Requires"), rows3))
    return tuple(tables)
