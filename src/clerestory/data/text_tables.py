"""CSV and JSON Lines: every row with its location in the file; malformed rows become findings."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.data import findings as data_findings
from clerestory.data.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, Columns, RawRow
from clerestory.data.findings import IncompleteRow

_Rows = Iterator[tuple[str, dict[str, Any] | IncompleteRow]]


def read_table(path: Path, keep_columns: Sequence[str] = ()) -> tuple[list[RawRow], list[Finding]]:
    """Every row of a ``.csv`` or ``.jsonl`` file, and the findings; malformed rows are reported and skipped.

    With ``keep_columns``, each row is a separate sample, and a row without an id gets its number as id.

    Raises:
        DataError: the file cannot be read as text, has no image column, or lacks one of ``keep_columns``.
    """
    try:
        rows = list(_csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "save it again as UTF-8 (in Excel: CSV UTF-8)") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}", "check the file") from None
    names = dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row)
    columns = Columns(names, keep_columns=keep_columns, where=str(path)) if names else Columns(names)
    if names and not columns.image:
        raise DataError(
            f"{path} has no image column (its columns are {', '.join(map(repr, names))})",
            f"name the column of image files {IMAGE_COLUMNS[0]!r}, and the column of captions {CAPTION_COLUMNS[0]!r}",
        )
    raw_rows: list[RawRow] = []
    findings: list[Finding] = []
    for number, (where, row) in enumerate(rows, start=1):
        if isinstance(row, IncompleteRow):
            findings.append(data_findings.incomplete_row(where, row))
            continue
        raw, row_findings = columns.read_row(row, where)
        if keep_columns:
            raw.id = raw.id or f"{number:06d}"
        raw_rows.append(raw)
        findings += row_findings
    return raw_rows, findings + columns.findings()


def _csv_rows(path: Path) -> _Rows:
    """Rows of a CSV file with a header; the delimiter is the most frequent of comma, semicolon and tab in it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=header.count)
        reader = csv.DictReader(file, delimiter=delimiter, restkey="", restval=None)
        for number, row in enumerate(reader, start=1):
            where = f"{path.name}, row {number}"
            yield (where, IncompleteRow.TOO_MANY_CELLS) if "" in row and row[""] else (where, row)


def _jsonl_rows(path: Path) -> _Rows:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                row = json.loads(line)
            except ValueError:
                yield where, IncompleteRow.NOT_A_JSON_OBJECT
                continue
            yield (where, row) if isinstance(row, dict) else (where, IncompleteRow.NOT_A_JSON_OBJECT)
