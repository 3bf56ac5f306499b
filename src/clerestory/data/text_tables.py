"""CSV and JSON Lines: rows with a place people can find, whatever is wrong with single ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.data import findings as data_findings
from clerestory.data.columns import CAPTION, PICTURE, Columns, Entry

_Rows = Iterator[tuple[str, dict[str, Any] | str]]


def read_table(path: Path, keep: Sequence[str] = ()) -> tuple[list[Entry], list[Finding]]:
    """Every row of a ``.csv`` or ``.jsonl`` file, and what was noticed; bad rows are named and left out.

    With columns to ``keep``, a row without an id has its number for one: each stands for itself.

    Raises:
        DataError: the file cannot be read as text, no column names a picture, or one to keep is not there.
    """
    try:
        rows = list(_csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "save it again as UTF-8 (in Excel: CSV UTF-8)") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}", "check the file") from None
    names = dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row)
    columns = Columns(names, keep=keep, where=str(path)) if names else Columns(names)
    if names and not columns.picture:
        raise DataError(
            f"no column of {path} names the pictures (it has {', '.join(map(repr, names)) or 'none'})",
            f"call one of them {PICTURE[0]!r}, and the one with the words {CAPTION[0]!r}",
        )
    entries: list[Entry] = []
    findings: list[Finding] = []
    for number, (where, row) in enumerate(rows, start=1):
        if isinstance(row, str):
            findings.append(data_findings.lacking(where, row))
            continue
        entry, noticed = columns.entry(row, where)
        if keep:
            entry.id = entry.id or f"{number:06d}"
        entries.append(entry)
        findings += noticed
    return entries, findings + columns.findings()


def _csv_rows(path: Path) -> _Rows:
    """Rows of a CSV file with a header; comma, semicolon or tab, whichever the header has most of."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=header.count)
        reader = csv.DictReader(file, delimiter=delimiter, restkey="", restval=None)
        for number, row in enumerate(reader, start=1):
            where = f"{path.name}, row {number}"
            yield (where, "it has more cells than the header") if "" in row and row[""] else (where, row)


def _jsonl_rows(path: Path) -> _Rows:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                row = json.loads(line)
            except ValueError:
                yield where, "it is not JSON"
                continue
            yield (where, row) if isinstance(row, dict) else (where, "it is not a JSON object")
