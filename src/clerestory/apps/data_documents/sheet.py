"""A data sheet (Gebru et al., "Datasheets for Datasets", 2021): measurements, and statements of its owner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from clerestory.apps.audit_report import safe_text
from clerestory.apps.data_documents.croissant import collection, description
from clerestory.apps.data_documents.record import (
    DatasetRecord,
    biases,
    limitations,
    not_audited,
    personal_information,
)
from clerestory.core.units import plural
from clerestory.report import format

OPEN = "*To be written by the owner of the data; nothing is recorded about it.*"


@dataclass(frozen=True, slots=True)
class DataStatements:
    """What no measurement can say; each is a text by the owner of the data, empty until it is written.

    Attributes:
        motivation: why the data was made, by whom, and who paid.
        collection: how the images and captions were collected, and whether the people in them were asked.
        preprocessing: how the images and captions were changed before.
        uses: what it is for, and what it must not be used for.
        distribution: to whom and how it is passed on.
        maintenance: who maintains it, and whom to ask for corrections.
    """

    motivation: str = ""
    collection: str = ""
    preprocessing: str = ""
    uses: str = ""
    distribution: str = ""
    maintenance: str = ""


def data_sheet(record: DatasetRecord, statements: DataStatements | None = None) -> str:
    """The data sheet as Markdown.

    Args:
        record: of the dataset.
        statements: of its owner.
    """
    said = statements or DataStatements()
    return "\n".join(_lines(record, said)) + "\n"


def open_questions(statements: DataStatements) -> list[str]:
    """The names of the statements that nobody has written."""
    return [each.name for each in fields(statements) if not getattr(statements, each.name).strip()]


def _lines(record: DatasetRecord, said: DataStatements) -> Iterator[str]:
    summary = record.summary
    yield from (f"# Data sheet: {_text(summary.name)}", "", _text(description(record)), "")
    yield "Numbers are counted from the data or measured by its audit; passages by the owner of the data are marked."
    yield from _section("Motivation", _said(said.motivation))
    yield from _section("Composition", [])
    yield from _table(("Split", "Images", "Concepts"), [(s.name, s.images, s.concepts) for s in summary.splits])
    if record.groups:
        yield from _table(("Group", "Value", "Images"), [(g.group, g.value, g.images) for g in record.groups])
    yield from ("Balance between groups:", "", *_bullets(biases(record)))
    yield from _section("Quality", _checked(record))
    if record.audit is not None:
        yield from _bullets(limitations(record))
    yield from _section("Personal data", _bullets(personal_information(record)))
    yield from _section("Collection", [_text(collection(record)) or "No source is recorded.", ""])
    if record.added_by:
        yield from (f"Brought into the store by {_text(record.added_by)} on {format.when(record.added)}.", "")
    yield from _said(said.collection)
    yield from _section("Preprocessing", _said(said.preprocessing))
    yield from _section("Licences", [])
    rows = [(s.licence or "not recorded", s.images, format.licence_words(s.licence)) for s in summary.licences]
    yield from _table(("Licence", "Images", "Requires"), rows)
    yield from _section("Uses", _said(said.uses))
    yield from _section("Distribution", _said(said.distribution))
    yield from _section("Maintenance", _said(said.maintenance))
    yield from _section("Digests", [])
    yield f"- data (SHA-256): `{summary.digest}`"
    if record.audit is not None:
        yield f"- audit (evidence): `{record.audit.id}`"


def _checked(record: DatasetRecord) -> list[str]:
    problem = not_audited(record)
    if problem:
        return [problem, ""]
    assert record.audit is not None  # or there would be a problem
    return [f"Checked on {format.when(record.audit.created)}, {plural(record.summary.size, 'image')}.", ""]


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield from lines


def _said(text: str) -> list[str]:
    quoted = "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())
    return [quoted if text.strip() else OPEN, ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = (format.count(cell) if isinstance(cell, int) else _text(str(cell)) for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _bullets(lines: Sequence[str]) -> list[str]:
    return [*(f"- {_text(line)}" for line in lines), ""]


def _text(text: str) -> str:
    """Foreign text inside of Markdown: on one line, without marks that change the page."""
    safe = safe_text(" ".join(text.split()))
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#" else each for each in safe)
