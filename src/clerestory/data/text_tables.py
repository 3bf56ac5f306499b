"""Tables of images and captions: every row with its location in the file; malformed rows become findings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from shlex import quote
from typing import Any

from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.core.files import read_problem
from clerestory.core.progress import QUIET, Progress
from clerestory.core.text import valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data import parquet
from clerestory.data.annotations import NotJson, json_rows
from clerestory.data.columns import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    URL_COLUMNS,
    Columns,
    RawRow,
    column_key,
    unique_names,
)
from clerestory.data.csv_lines import CsvReader, CsvRecord, read_lines
from clerestory.data.data_folder import is_image_name
from clerestory.data.findings import IncompleteRow
from clerestory.data.optional import pa, pq

ROWS_PER_UPDATE = 1000
TABLE_SUFFIXES = frozenset((".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"))
_IMAGE_KEYS = frozenset(map(column_key, (*IMAGE_COLUMNS, *URL_COLUMNS)))
_URL = re.compile(r"[a-z][a-z0-9+.\-]*://\S+", re.IGNORECASE)
_Rows = Iterator[tuple[int, str, dict[str, Any] | IncompleteRow]]


@dataclass(slots=True)
class Table:
    """What was read from a table.

    Attributes:
        rows: every row that could be read.
        findings: about the others, and about captions.
        columns: to finish the rows with, when it is known which of them are one sample (``assemble``).
    """

    rows: list[RawRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)


def read_table(path: Path, keep_columns: Sequence[str] = (), progress: Progress = QUIET) -> Table:
    """Every row of a CSV, JSON or Parquet file, and the findings; malformed rows are reported and skipped.

    A CSV may also be tab-separated, or a list of captions without a header (``a.jpg#0<TAB>a red bag``).

    With ``keep_columns``, each row is a separate sample, and a row without an id gets its number as id.

    Raises:
        DataError: the file cannot be read as text, has no image column, or lacks one of ``keep_columns``.
    """
    table = Table()
    lines = _count_lines(path)
    with progress.task(f"Reading {path.name}", lines) as task:
        rows = _READERS.get(path.suffix.lower(), _csv_rows)(path, keep_columns, table)
        number = read = 0
        for number, (line, where, row) in enumerate(rows, start=1):
            if isinstance(row, IncompleteRow):
                table.findings.append(data_findings.incomplete_row(where, row))
            else:
                raw, row_findings = table.columns[0].read_row(row, where)
                if keep_columns:
                    raw.id = raw.id or f"{number:06d}"
                table.rows.append(raw)
                table.findings += row_findings
            if line - read >= ROWS_PER_UPDATE:
                task.advance(line - read)
                read = line
        task.advance(lines - read)
    return table


def _count_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {read_problem(error)}", "check the file") from None


def _columns(names: Iterable[str], keep_columns: Sequence[str], path: Path) -> Columns:
    columns = Columns(names, keep_columns=keep_columns, where=str(path))
    if columns.names and not columns.image:
        raise DataError(
            f"{path} has no image column (its columns are {', '.join(map(repr, columns.names))})",
            f"name the column of image files {IMAGE_COLUMNS[0]!r}, and the column of captions {CAPTION_COLUMNS[0]!r}",
        )
    return columns


def is_table(path: Path) -> bool:
    """Whether a text file is a table of images: its header names a column of images, or its first cell is an image."""
    try:
        header = _csv_reader(path).header
    except DataError:
        return False
    return len(header) > 1 and (
        any(column_key(cell) in _IMAGE_KEYS for cell in header) or bool(_implied_header(header))
    )


def _csv_reader(path: Path) -> CsvReader:
    return CsvReader(read_lines(path), is_header=lambda cells: any(column_key(cell) in _IMAGE_KEYS for cell in cells))


def _implied_header(cells: Sequence[str]) -> list[str]:
    """The columns of a table whose first line is a row already; empty if it is a header.

    It is a row if it begins with an image and ends with a text, or has the URL of an image.
    """
    if len(cells) > 1 and _is_image_name(cells[0]) and not _is_image_name(cells[-1]) and _has_letters(cells[-1]):
        return ["image", *(f"column {i}" for i in range(2, len(cells))), "caption"]
    urls = [i for i, cell in enumerate(cells) if _URL.match(cell.strip())]
    return ["image" if i in urls else "caption" for i in range(len(cells))] if urls else []


def _has_row_names(header: Sequence[str], first: Sequence[str]) -> bool:
    """Whether the rows begin with a name or number for which the header has no cell, as R writes them."""
    images = [i for i, cell in enumerate(header) if column_key(cell) in _IMAGE_KEYS]
    return len(first) == len(header) + 1 and any(
        is_image_name(first[i + 1].strip()) and not is_image_name(first[i].strip()) for i in images
    )


def _has_letters(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _csv_rows(path: Path, keep_columns: Sequence[str], table: Table) -> _Rows:
    """Rows of a CSV file: the number of the line, how findings refer to the row, and its cells."""
    reader = _csv_reader(path)
    first: list[CsvRecord] = []
    if names := _implied_header(reader.header):
        first, reader.header = [CsvRecord(1, 1, reader.header)], names
    first += islice(reader, 1)
    if first and _has_row_names(reader.header, first[0].cells):
        reader.header = ["", *reader.header]
    header = unique_names(reader.header) if reader.header else []
    columns = _columns(header, keep_columns, path)
    table.columns.append(columns)
    width = len(header)
    image = header.index(columns.image) if header else 0
    reader.begins_row = lambda cells: len(cells) >= width and _may_be_image(cells[image])
    multi_line: tuple[str, CsvRecord] | None = None  # an example
    num_multi_line = 0
    for number, record in enumerate(chain(first, reader), start=1):
        where = f"{path.name}, row {number}"
        if record.lines > 1:
            num_multi_line += 1
            multi_line = multi_line or (where, record)
        if any(cell.strip() for cell in record.cells[width:]):
            reason = IncompleteRow.TOO_MANY_CELLS if record.is_balanced else IncompleteRow.UNBALANCED_QUOTE
            yield record.line, where, reason
            continue
        if not record.is_balanced:
            table.findings.append(data_findings.unbalanced_quote(where, record.line))
        yield record.line, where, dict(zip(header, record.cells, strict=False))
    if multi_line:
        where, record = multi_line
        lines = (record.line, record.line + record.lines - 1)
        table.findings.append(data_findings.rows_of_several_lines(num_multi_line, where, lines))


def _may_be_image(cell: str) -> bool:
    """Whether a cell looks like the image of a row, also of one that has none."""
    return not cell.strip() or _is_image_name(cell)


def _is_image_name(cell: str) -> bool:
    return is_image_name(cell.strip().partition("#")[0])


def _json_rows(path: Path, keep_columns: Sequence[str], table: Table) -> _Rows:
    """Rows of a JSON file: one list, the annotations of COCO, or JSON Lines under this name."""
    try:
        rows = list(json_rows(path))
    except NotJson:
        yield from _jsonl_rows(path, keep_columns, table)
        return
    names = dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row)
    table.columns.append(_columns(names, keep_columns, path))
    yield from ((0, where, row) for where, row in rows)


def _parquet_rows(path: Path, keep_columns: Sequence[str], table: Table) -> _Rows:
    """Rows of a Parquet file that names image files."""
    try:
        with path.open("rb") as opened:  # Arrow itself opens only names that are UTF-8
            file = pq.ParquetFile(opened)
            if parquet.image_column(file.schema_arrow):
                fix = f"add it separately: clerestory data add {quote(str(path))}"
                raise DataError(f"{path} contains the images themselves", fix)
            names = unique_names(file.schema_arrow.names)
            table.columns.append(_columns(names, keep_columns, path))
            rows = chain.from_iterable(batch.rename_columns(names).to_pylist() for batch in file.iter_batches())
            for number, row in enumerate(rows, start=1):
                yield 0, f"{path.name}, row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", "check the file") from None


def _jsonl_rows(path: Path, keep_columns: Sequence[str], table: Table) -> _Rows:
    """Rows of a JSON Lines file. It is read twice, since the columns are known only after the last row."""
    names: dict[str, None] = {}
    for _, row in _json_objects(path):
        names.update(dict.fromkeys(row or {}))
    table.columns.append(_columns(names, keep_columns, path))
    for number, row in _json_objects(path):
        where = f"{path.name}, line {number}"
        yield number, where, IncompleteRow.NOT_A_JSON_OBJECT if row is None else row


def _json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The object in each line that is not blank; None if there is none."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_json_object)
        except (ValueError, RecursionError):
            row = None
        yield number, row if isinstance(row, dict) else None


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with all of its values: a second ``"caption"`` becomes ``"caption.1"``, as in a CSV."""
    row = dict(pairs)
    if len(row) == len(pairs) and all(name and name.isascii() for name in row):
        return row
    return dict(zip(unique_names(valid_unicode(name) for name, _ in pairs), (value for _, value in pairs), strict=True))


_READERS = {
    **dict.fromkeys((".jsonl", ".ndjson"), _jsonl_rows),
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}
