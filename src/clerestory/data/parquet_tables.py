"""Parquet files of any origin, with images in a column (bytes, or the Hugging Face struct) or as file names."""

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
from clerestory.data.columns import IMAGE_COLUMNS, Columns, RawRow
from clerestory.data.findings import IncompleteRow
from clerestory.data.folder import dataset_from_files, resolve_paths
from clerestory.data.image_scan import ImageScan, scan_image

BATCH_SIZE = 256


def open_parquet(path: Path, progress: Progress = QUIET, keep_columns: Sequence[str] = ()) -> Dataset:
    """Open a Parquet file. One that Clerestory wrote and that still matches its sidecar opens without a scan.

    With ``keep_columns``, each row is a separate sample; see ``Columns``. A file that Clerestory wrote already has them
    among its groups.

    Raises:
        DataError: the file is not Parquet, has no image column, or has no readable image.
    """
    sidecar = parquet.read_sidecar(path)
    try:
        if sidecar is not None and digest_file(path) == sidecar.sha256:
            return parquet.open_dataset(path)
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", "check the file") from None
    own_layout = (schema.metadata or {}).get(b"layout") in parquet.LAYOUTS
    column = parquet.image_column(schema, IMAGE_COLUMNS)
    if column:
        return _with_bytes(path, schema, column, own_layout, progress, () if own_layout else keep_columns)
    columns = Columns(schema.names, keep_columns=keep_columns, where=str(path))
    if not columns.image:
        raise DataError(
            f"{path} has no image column (its columns are {', '.join(schema.names)})",
            f"name it {IMAGE_COLUMNS[0]!r}; it contains encoded bytes, or the names of image files",
        )
    return _with_names(path, columns, progress)


def _with_bytes(
    path: Path, schema: pa.Schema, column: str, own_layout: bool, progress: Progress, keep_columns: Sequence[str]
) -> Dataset:
    columns = Columns(schema.names, exclude=[column], keep_columns=keep_columns, where=str(path))
    images = parquet.ParquetImages(path, column)
    scanned: list[tuple[RawRow, ImageScan]] = []
    findings: list[Finding] = []
    rows: dict[str, int] = {}
    number = 0
    with progress.task("Checking images", images.file.metadata.num_rows) as task:
        for batch in images.file.iter_batches(batch_size=BATCH_SIZE):
            for row in batch.to_pylist():
                raw, row_findings = columns.read_row(row, f"row {number + 1}")
                findings += row_findings
                content = row[column]["bytes"] if isinstance(row[column], dict) else row[column]
                raw.id = raw.id or ("" if keep_columns else _file_name(row, column)) or f"{number:08d}"
                if content is None:
                    findings.append(data_findings.incomplete_row(raw.where, IncompleteRow.NO_IMAGE))
                else:
                    scanned.append((raw, scan_image(content)))
                    rows.setdefault(raw.id, number)
                number += 1
            task.advance(len(batch))
    images.rows = rows
    return assemble(path.stem, scanned, images.read, findings + columns.findings(), not own_layout, not keep_columns)


def _file_name(row: dict[str, Any], column: str) -> str:
    """The file name that Hugging Face stores beside the bytes."""
    return str(row[column].get("path") or "") if isinstance(row[column], dict) else ""


def _with_names(path: Path, columns: Columns, progress: Progress) -> Dataset:
    rows: list[RawRow] = []
    findings: list[Finding] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_SIZE):
        for row in batch.to_pylist():
            raw, row_findings = columns.read_row(row, f"row {len(rows) + 1}")
            if columns.keep_columns:
                raw.id = raw.id or f"{len(rows):08d}"
            rows.append(raw)
            findings += row_findings
    listed, path_findings = resolve_paths(path.parent, rows)
    findings = [*findings, *path_findings, *columns.findings()]
    return dataset_from_files(path.stem, path.parent, listed, findings, progress, splits=not columns.keep_columns)
