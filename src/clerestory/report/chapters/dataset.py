"""The pictures a model was made from, in numbers, and what their licences ask for."""

from __future__ import annotations

from clerestory.core.digest import short
from clerestory.report import format
from clerestory.report.model import Data
from clerestory.report.view import DataView, Table


def summary(data: Data) -> DataView:
    """What is in them, as far as they were at hand."""
    name = data.name or "the data set"
    if not data.size:
        line = f"The evidence is about the data set {short(data.digest)}, which this store does not list."
        return DataView(f"Data set {short(data.digest)}", (line,), (), ())
    if not data.examined:
        line = f"{format.plural(data.size, 'picture')}; the pictures were not at hand when this report was made."
        return DataView(f"{name} ({short(data.digest)})", (line,), (), ())
    lines = [
        f"{format.plural(data.size, 'picture')} of {format.plural(data.concepts, 'concept')} with "
        f"{format.plural(data.captions, 'caption')} in {format.plural(len(data.languages), 'language')} "
        f"({', '.join(data.languages[:12])}{'…' if len(data.languages) > 12 else ''})."
    ]
    return DataView(f"{name} ({short(data.digest)})", tuple(lines), tuple(_licence_warnings(data)), _data_tables(data))


def _licence_warnings(data: Data) -> list[str]:
    alike = [item for item in data.licences if format.share_alike(item.licence)]
    warnings = [
        f"Share-alike: {format.plural(item.pictures, 'picture')} under {item.licence}"
        + (f" ({format.listing([format.slice_value('style', s) for s in item.styles])})" if item.styles else "")
        + ". What is made from them may have to carry the same licence; ask somebody who knows before selling it."
        for item in alike
    ]
    unknown = sum(item.pictures for item in data.licences if not item.licence)
    if unknown:
        warnings.append(f"{format.plural(unknown, 'picture')} without a recorded licence.")
    return warnings


def _data_tables(data: Data) -> tuple[Table, ...]:
    tables = []
    if data.splits:
        rows = tuple(
            (s.name, format.slice_value("split", s.name), format.count(s.pictures), format.count(s.concepts))
            for s in data.splits
        )
        tables.append(Table("Splits", ("Split", "Holds", "Pictures", "Concepts"), rows))
    if data.styles:
        rows2 = tuple(
            (
                format.slice_value("style", s.name),
                format.count(s.pictures),
                ", ".join(n or "unknown" for n in s.licences),
            )
            for s in data.styles
        )
        tables.append(Table("Styles", ("Style", "Pictures", "Licence"), rows2))
    if data.licences:
        rows3 = tuple(
            (item.licence or "unknown", format.count(item.pictures), format.licence_words(item.licence))
            for item in data.licences
        )
        tables.append(Table("Licences", ("Licence", "Pictures", "Asks for"), rows3))
    return tuple(tables)
