"""A folder of images in one of the common layouts, with captions in tables or in files beside the images."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clerestory.core.errors import IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.files import read_problem
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.core.text import valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data.assemble import assemble
from clerestory.data.caption_tables import SPREADSHEET_SUFFIXES, read_tables
from clerestory.data.columns import Columns, RawRow
from clerestory.data.data_folder import DataFolder, begins_like_an_image, is_image_name
from clerestory.data.findings import UnusedFile
from clerestory.data.image_paths import resolve_paths, urls_error
from clerestory.data.image_scan import ImageScan, scan_files
from clerestory.data.layout import apply_layout
from clerestory.data.sidecars import Sidecars
from clerestory.data.text_tables import TABLE_SUFFIXES, read_table

ScanFiles = Callable[[Path, Iterable[str], Progress], dict[str, ImageScan]]
ARCHIVE_SUFFIXES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"))


@dataclass(slots=True)
class FolderFiles:
    """The files of a folder by what they are.

    Attributes:
        images: also those in a format that is not supported.
        tables: everything that may be a table.
        others: the rest.
    """

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def open_folder(
    data: DataFolder,
    files: FolderFiles,
    progress: Progress = QUIET,
    keep_columns: Sequence[str] = (),
    scan: ScanFiles = scan_files,
) -> Dataset:
    """Open a folder with its sub-folders, without hidden files. Ids are paths below the folder.

    Everything that is not part of a sample is named in a finding.

    Args:
        data: the folder.
        files: its files, from ``sort_files``.
        progress: advanced by every row and every image.
        keep_columns: each row of its tables is a separate sample; see ``Columns``.
        scan: reads the images; an index of the folder knows what it would find.

    Raises:
        DataError: it has two caption files, or no readable image.
    """
    sidecars = Sidecars(data, files.images, files.tables)
    candidates = [file for file in files.tables if file not in sidecars.files]
    tables = read_tables(data, candidates, keep_columns, progress)
    if tables.url and not files.images:
        raise urls_error(data.root / tables.url_table, tables.url, tables.url_columns[0])
    listed = {row.file for row in tables.rows}
    rows = [*tables.rows, *(_row(file) for file in files.images if file not in listed)]
    findings = [*data.findings(), *tables.findings]
    for row in rows:
        if not row.captions:
            findings += sidecars.read(row)
    used = {*tables.used, *sidecars.used, *listed}
    findings += unused_findings(files, used, sidecars.files)
    return dataset_from_files(
        data.name, data, rows, findings, progress, tables.columns, separate_rows=bool(keep_columns), scan=scan
    )


def open_table(path: Path, progress: Progress = QUIET, keep_columns: Sequence[str] = ()) -> Dataset:
    """Open a table whose rows name image files, relative to the folder of the table.

    The images of a table in a folder ``annotations`` may also be beside that folder. With ``keep_columns``, each row is
    a separate sample; see ``Columns``.

    Raises:
        DataError: the table cannot be read, or names no readable image.
    """
    table = read_table(path, keep_columns, progress)
    parent = path.resolve().parent
    data = DataFolder(parent.parent if parent.name.lower() == "annotations" else parent)
    resolved = resolve_paths(data, table.rows, path.resolve().relative_to(data.root).as_posix())
    if resolved.url and not resolved.rows:
        raise urls_error(path, resolved.url, table.columns[0])
    return dataset_from_files(
        path.stem,
        data,
        resolved.rows,
        [*table.findings, *resolved.findings],
        progress,
        table.columns,
        separate_rows=bool(keep_columns),
    )


def sort_files(folder: DataFolder) -> FolderFiles:
    """What each file is: by its suffix, else by its content."""
    result = FolderFiles()
    for file in folder.files:
        suffix = posixpath.splitext(file)[1].lower()
        if is_image_name(file) or _is_image(folder.root / file):
            result.images.append(file)
        elif suffix in TABLE_SUFFIXES or suffix in SPREADSHEET_SUFFIXES or suffix in (".txt", ".caption", ".text"):
            result.tables.append(file)
        else:
            result.others.append(file)
    return result


def _is_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return begins_like_an_image(file.read(16))
    except OSError:
        return False


def _row(file: str) -> RawRow:
    name = valid_unicode(file)
    return RawRow(where=name, id=name, file=file)


def unused_findings(files: FolderFiles, used: Collection[str] = (), sidecars: Collection[str] = ()) -> list[Finding]:
    """Findings about all tables and other files that are not ``used``; ``sidecars`` lie beside an image."""
    unused: defaultdict[UnusedFile, list[str]] = defaultdict(list)
    for file in files.tables:
        if file not in used:
            unused[UnusedFile.SIDECAR if file in sidecars else UnusedFile.NO_IMAGE].append(file)
    for file in files.others:
        is_archive = posixpath.splitext(file)[1].lower() in ARCHIVE_SUFFIXES
        unused[UnusedFile.ARCHIVE if is_archive else UnusedFile.UNKNOWN_FORMAT].append(file)
    return [data_findings.unused_files(reason, names) for reason, names in sorted(unused.items())]


def dataset_from_files(
    name: str,
    folder: DataFolder,
    rows: list[RawRow],
    findings: list[Finding],
    progress: Progress = QUIET,
    columns: Sequence[Columns] = (),
    separate_rows: bool = False,
    scan: ScanFiles = scan_files,
) -> Dataset:
    """The dataset of rows whose images are files of ``folder``; an image is read when it is needed."""
    scans = scan(folder.root, (row.file for row in rows), progress)
    scanned: list[tuple[RawRow, ImageScan]] = []
    for row in rows:
        if row.file not in scans:
            findings.append(data_findings.missing_file(row.where, valid_unicode(row.file)))
            continue
        row.source, row.location = row.source or valid_unicode(row.file), row.file
        scanned.append((row, scans[row.file]))
    apply_layout([row for row, _ in scanned], splits=not separate_rows)

    def read(file: str) -> bytes:
        path = folder.root / file
        try:
            return path.read_bytes()
        except OSError as error:
            problem = f"{path} cannot be read: {read_problem(error)}"
            raise IntegrityError(problem, "restore the file, or open the data again") from None

    return assemble(name, scanned, read, findings, columns, separate_rows=separate_rows, file_at=folder.root.joinpath)
