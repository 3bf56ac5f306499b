"""Parquet files of any origin, with images in a column (bytes, or the Hugging Face struct) or as file names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clerestory.core.digest import digest_file
from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.data import findings as data_findings
from clerestory.data import parquet
from clerestory.data.assemble import assemble
from clerestory.data.cells import file_of
from clerestory.data.columns import IMAGE_COLUMNS, Columns, RawRow, unique_names
from clerestory.data.findings import IncompleteRow
from clerestory.data.folder import open_table
from clerestory.data.identity import ScannedRow
from clerestory.data.image_scan import scan_image
from clerestory.data.optional import pa, pq

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
    own_layout = parquet.is_own_layout(schema)
    names = unique_names(schema.names)
    column = parquet.image_column(schema, IMAGE_COLUMNS)
    exclude = [column] if column else []
    columns = Columns(names, exclude, () if own_layout else keep_columns, where=str(path))
    if not column and not columns.image:
        raise DataError(
            f"{path} has no image column (its columns are {', '.join(schema.names)})",
            f"name it {IMAGE_COLUMNS[0]!r}; it contains encoded bytes, or the names of image files",
        )
    if not column:
        return open_table(path, progress, keep_columns)
    try:
        return _with_bytes(path, columns, column, own_layout, progress)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}", "write the file again") from None


def _with_bytes(path: Path, columns: Columns, column: str, own_layout: bool, progress: Progress) -> Dataset:
    images = parquet.ParquetImages(path, column)
    scanned: list[ScannedRow] = []
    findings: list[Finding] = []
    with progress.task("Checking images", images.file.metadata.num_rows) as task:
        samples = iter(parquet.read_samples(images.file)) if own_layout else None
        for number, row in enumerate(_rows(images.file, [column] if own_layout else None)):
            where = f"row {number + 1}"
            raw, row_findings = (_own_row(next(samples), where), []) if samples else columns.read_row(row, where)
            findings += row_findings
            content = row[column]["bytes"] if isinstance(row[column], dict) else row[column]
            raw.id = raw.id or ("" if columns.keep_columns else _file_name(row, column)) or f"{number:08d}"
            raw.location = number
            if content is None:
                findings.append(data_findings.incomplete_row(raw.where, IncompleteRow.NO_IMAGE))
            else:
                scanned.append((raw, scan_image(content)))
            task.advance()
    separate_rows = bool(columns.keep_columns)
    return assemble(path.stem, scanned, images.read_row, findings, [columns], not own_layout, separate_rows)


def _own_row(sample: Sample, where: str) -> RawRow:
    """A row of a file that Clerestory wrote: what it contains was understood when it was written."""
    return RawRow(
        where=where,
        id=sample.id,
        captions=list(sample.captions),
        concept=sample.concept,
        groups=dict(sample.groups),
        licence=sample.licence,
        source=sample.source,
        split=sample.split,
        sha256=sample.image,
    )


def _rows(file: pq.ParquetFile, names: list[str] | None) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(batch_size=BATCH_SIZE, columns=names):
        yield from batch.rename_columns(unique_names(batch.schema.names)).to_pylist()


def _file_name(row: dict[str, Any], column: str) -> str:
    """The file name that Hugging Face stores beside the bytes."""
    return file_of(row[column]) if isinstance(row[column], dict) else ""
