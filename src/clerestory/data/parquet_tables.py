"""Parquet files of any origin: pictures in a column (as bytes, or as Hugging Face writes them), or as file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clerestory.core.digest import digest_file
from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.data import findings as data_findings
from clerestory.data import parquet
from clerestory.data.assemble import assemble
from clerestory.data.columns import PICTURE, Columns, Entry
from clerestory.data.folder import from_files, locate
from clerestory.data.image_scan import Seen, look

BATCH = 256


def open_parquet(path: Path, progress: Progress = QUIET, keep: Sequence[str] = ()) -> Dataset:
    """Open a Parquet file. One that Clerestory wrote, and that is still what its side file says, opens at once.

    With columns to ``keep``, each row is a sample of its own; see ``fields.Columns``. A file that Clerestory wrote
    has them among its groups.

    Raises:
        DataError: it is not Parquet, has no column with pictures, or no readable picture.
    """
    side = parquet.read_side(path)
    try:
        if side is not None and digest_file(path) == side.sha256:
            return parquet.open_written(path)
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", "check the file") from None
    own = (schema.metadata or {}).get(b"layout") == parquet.LAYOUT
    column = _bytes_column(schema)
    if column:
        return _with_bytes(path, schema, column, own, progress, () if own else keep)
    columns = Columns(schema.names, keep=keep, where=str(path))
    if not columns.picture:
        raise DataError(
            f"no column of {path} holds pictures (it has {', '.join(schema.names)})",
            f"call it {PICTURE[0]!r}: encoded bytes, or names of picture files",
        )
    return _with_names(path, columns, progress)


def _bytes_column(schema: pa.Schema) -> str:
    """The column with encoded bytes: binary, or a struct with a ``bytes`` field; a usual name goes first."""
    holds: list[str] = [field.name for field in schema if _is_bytes(field.type)]
    usual = [name for name in holds if name.lower() in PICTURE]
    return (usual or holds or [""])[0]


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _with_bytes(
    path: Path, schema: pa.Schema, column: str, own: bool, progress: Progress, keep: Sequence[str]
) -> Dataset:
    columns = Columns(schema.names, taken=[column], keep=keep, where=str(path))
    pictures = parquet.Pictures(path, column)
    looked: list[tuple[Entry, Seen]] = []
    findings: list[Finding] = []
    rows: dict[str, int] = {}
    number = 0
    with progress.task("Looking at pictures", pictures.file.metadata.num_rows) as task:
        for batch in pictures.file.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                entry, noticed = columns.entry(row, f"row {number + 1}")
                findings += noticed
                content = row[column]["bytes"] if isinstance(row[column], dict) else row[column]
                entry.id = entry.id or ("" if keep else _own_name(row, column)) or f"{number:08d}"
                if content is None:
                    findings.append(data_findings.lacking(entry.where, "it holds no picture"))
                else:
                    looked.append((entry, look(content)))
                    rows.setdefault(entry.id, number)
                number += 1
            task.advance(len(batch))
    pictures.ids = rows
    return assemble(path.stem, looked, pictures.read, findings + columns.findings(), not own, not keep)


def _own_name(row: dict[str, Any], column: str) -> str:
    """The file name that Hugging Face keeps beside the bytes."""
    return str(row[column].get("path") or "") if isinstance(row[column], dict) else ""


def _with_names(path: Path, columns: Columns, progress: Progress) -> Dataset:
    entries: list[Entry] = []
    findings: list[Finding] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH):
        for row in batch.to_pylist():
            entry, noticed = columns.entry(row, f"row {len(entries) + 1}")
            if columns.keep:
                entry.id = entry.id or f"{len(entries):08d}"
            entries.append(entry)
            findings += noticed
    located, more = locate(path.parent, entries)
    noticed = [*findings, *more, *columns.findings()]
    return from_files(path.stem, path.parent, located, noticed, progress, splits=not columns.keep)
