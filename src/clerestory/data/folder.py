"""A folder of images, with captions in ``captions.csv|jsonl`` or in a ``.txt`` file beside each image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from clerestory.core.errors import DataError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Caption, Dataset
from clerestory.data import findings as data_findings
from clerestory.data.assemble import assemble
from clerestory.data.columns import Columns, RawRow
from clerestory.data.findings import EmptyCaption, IncompleteRow, UnreadableImage
from clerestory.data.image_scan import ImageScan, scan_files
from clerestory.data.text_tables import Table, read_table

CAPTION_FILES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
UNSUPPORTED_SUFFIXES = {".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".svg"}


def open_folder(folder: Path, progress: Progress = QUIET, keep_columns: Sequence[str] = ()) -> Dataset:
    """Open a folder with its sub-folders, without hidden files. Ids are paths below the folder.

    With ``keep_columns``, each row of its caption file is a separate sample; see ``Columns``.

    Raises:
        DataError: it has two caption files, or no readable image.
    """
    tables = [folder / name for name in CAPTION_FILES if (folder / name).is_file()]
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise DataError(f"{folder} has several caption files: {names}", "remove all but one")
    table = read_table(tables[0], keep_columns, progress) if tables else Table()
    listed, path_findings = resolve_paths(folder, table.rows)
    unlisted, folder_findings = _unlisted_images(folder, {row.file for row in listed})
    findings = [*table.findings, *path_findings, *folder_findings]
    name = folder.resolve().name
    return dataset_from_files(
        name, folder, listed + unlisted, findings, progress, table.columns, separate_rows=bool(keep_columns)
    )


def open_table(path: Path, progress: Progress = QUIET, keep_columns: Sequence[str] = ()) -> Dataset:
    """Open a ``.csv`` or ``.jsonl`` file whose rows name image files, relative to the folder of the table.

    With ``keep_columns``, each row is a separate sample; see ``Columns``.

    Raises:
        DataError: the table cannot be read, or names no readable image.
    """
    table = read_table(path, keep_columns, progress)
    listed, path_findings = resolve_paths(path.parent, table.rows)
    findings = [*table.findings, *path_findings]
    return dataset_from_files(
        path.stem, path.parent, listed, findings, progress, table.columns, separate_rows=bool(keep_columns)
    )


def resolve_paths(root: Path, rows: list[RawRow]) -> tuple[list[RawRow], list[Finding]]:
    """Replace the paths of the rows by paths below ``root``, which are the ids of rows without one."""
    resolved: list[RawRow] = []
    findings: list[Finding] = []
    for row in rows:
        inside = _inside(root, row.file)
        if not row.file:
            findings.append(data_findings.incomplete_row(row.where, IncompleteRow.NO_IMAGE))
        elif inside is None:
            findings.append(data_findings.outside_folder(row.where, row.file))
        else:
            row.file = inside
            row.id = row.id or inside
            resolved.append(row)
    return resolved, findings


def _inside(root: Path, file: str) -> str | None:
    """The path below ``root``; None if it is outside (also through a link)."""
    try:
        return (root.resolve() / file.replace("\\", "/")).resolve().relative_to(root.resolve()).as_posix()
    except (ValueError, OSError):
        return None


def _unlisted_images(folder: Path, listed: set[str]) -> tuple[list[RawRow], list[Finding]]:
    """Rows for images that the caption file does not list, with captions from the text file beside them."""
    rows, findings = [], []
    for path in _walk(folder):
        file = path.relative_to(folder).as_posix()
        suffix = path.suffix.lower()
        if file in listed or suffix not in IMAGE_SUFFIXES | UNSUPPORTED_SUFFIXES:
            continue
        if _inside(folder, file) is None:
            findings.append(data_findings.outside_folder(file, file))
        elif suffix in UNSUPPORTED_SUFFIXES:
            problem = f"a {suffix} file is not a JPEG, PNG or WEBP image"
            findings.append(data_findings.unreadable_image(file, UnreadableImage.UNSUPPORTED_FORMAT, problem))
        else:
            captions, problems = _sidecar_captions(path, file)
            findings += problems
            rows.append(RawRow(where=file, id=file, file=file, captions=captions))
    return rows, findings


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(files) if not name.startswith("."))


def _sidecar_captions(image: Path, file: str) -> tuple[list[Caption], list[Finding]]:
    """Captions from ``x.txt`` beside ``x.jpg``, one per line."""
    where = Path(file).with_suffix(".txt").as_posix()
    try:
        text = image.with_suffix(".txt").read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError):
        return [], [data_findings.empty_caption(where, EmptyCaption.NOT_UTF8)]
    lines = dict.fromkeys(line for raw in text.splitlines() if (line := " ".join(raw.split())))
    return ([Caption(line) for line in lines], []) if lines else ([], [data_findings.empty_caption(where)])


def dataset_from_files(
    name: str,
    root: Path,
    rows: list[RawRow],
    findings: list[Finding],
    progress: Progress = QUIET,
    columns: Sequence[Columns] = (),
    separate_rows: bool = False,
) -> Dataset:
    """The dataset of rows whose images are files below ``root``; an image is read when it is needed."""
    root = root.resolve()
    scans = scan_files(root, (row.file for row in rows), progress)
    scanned: list[tuple[RawRow, ImageScan]] = []
    for row in rows:
        if row.file not in scans:
            findings.append(data_findings.missing_file(row.where, row.file))
            continue
        row.source, row.location = row.source or row.file, row.file
        folder, separator, _ = row.file.partition("/")
        if separator:
            row.groups.setdefault("folder", folder)
        scanned.append((row, scans[row.file]))

    def read(file: str) -> bytes:
        try:
            return (root / file).read_bytes()
        except OSError as error:
            problem = f"{root / file} cannot be read: {error.strerror or error}"
            raise IntegrityError(problem, "restore the file, or open the data again") from None

    return assemble(name, scanned, read, findings, columns, separate_rows=separate_rows)
