"""Which tables of a data folder are read: by name and by content; none is left out in silence."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from clerestory.core.errors import DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.text import valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data.columns import Columns, RawRow
from clerestory.data.data_folder import DataFolder, TailIndex, is_image_name
from clerestory.data.findings import UnreadTable
from clerestory.data.image_paths import resolve_paths
from clerestory.data.layout import split_in_name
from clerestory.data.text_tables import TABLE_SUFFIXES, Table, is_table, read_table

STANDARD_NAMES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
SPREADSHEET_SUFFIXES = frozenset((".xlsx", ".xls", ".ods", ".numbers"))
MAX_LIST_BYTES = 64 * 2**20


@dataclass(slots=True)
class FolderTables(Table):
    """What the tables of a folder say together.

    Attributes:
        used: the paths of the tables, and of the lists of splits, that were read or are named in a finding.
        url: the first URL of an image in a table; empty if there is none.
        url_table: the path of that table.
        url_columns: its columns.
    """

    used: set[str] = field(default_factory=set)
    url: str = ""
    url_table: str = ""
    url_columns: list[Columns] = field(default_factory=list)
    _captioned: dict[str, str] = field(default_factory=dict)
    _splits: dict[str, list[RawRow]] = field(default_factory=dict)


def read_tables(
    folder: DataFolder, files: Sequence[str], keep_columns: Sequence[str] = (), progress: Progress = QUIET
) -> FolderTables:
    """Read the tables of a folder; each one that is not read is named in a finding.

    An image gets its captions from one table: from ``captions.csv`` and the like if there is one, else from the first
    one in the order of ``_preference``. Tables of different images, such as ``train.csv`` and ``val.csv``, add up; so
    do captions and categories of COCO.

    Args:
        folder: the data.
        files: all files that may be tables.
        keep_columns: as for ``open_data``.
        progress: advanced by the rows.

    Raises:
        DataError: the folder has two of the standard tables, or its standard table cannot be read.
    """
    standard = [file for file in files if file.lower() in STANDARD_NAMES]
    if len(standard) > 1:
        names = " and ".join(sorted(standard))
        raise DataError(f"{folder.root} has several caption files: {names}", "keep one, and rename or move the others")
    result = FolderTables()
    with_standard = {posixpath.dirname(file): file for file in files if _is_standard(file)}
    for file in sorted(files, key=_preference):
        chosen = with_standard.get(posixpath.dirname(file), file)
        suffix = posixpath.splitext(file)[1].lower()
        if suffix in SPREADSHEET_SUFFIXES:
            _unread(result, file, UnreadTable.UNREADABLE, "a spreadsheet must be saved as CSV first")
        elif suffix not in TABLE_SUFFIXES and not is_table(folder.root / file):
            continue
        elif chosen != file:
            _unread(result, file, UnreadTable.ANOTHER_TABLE, f"{valid_unicode(chosen)} is read instead")
        else:
            _read(folder, file, keep_columns, progress, result)
    if not keep_columns:
        _apply_splits(folder, files, result)
    return result


def _preference(file: str) -> tuple[bool, bool, bool, bool, str]:
    """Standard names first, then names with "caption"; lemmatised captions, and lists in plain text, come last."""
    name = posixpath.basename(file).lower()
    return not _is_standard(file), "lemma" in name, "caption" not in name, name.endswith(".txt"), file


def _is_standard(file: str) -> bool:
    return posixpath.basename(file).lower() in STANDARD_NAMES


def _read(folder: DataFolder, file: str, keep_columns: Sequence[str], progress: Progress, result: FolderTables) -> None:
    is_required = "/" not in file and _is_standard(file)
    try:
        table = read_table(folder.root / file, keep_columns, progress)
    except DataError as error:
        if is_required:
            raise
        _unread(result, file, UnreadTable.UNREADABLE, error.message.replace(str(folder.root / file), "it"))
        return
    resolved = resolve_paths(folder, table.rows, file)
    if resolved.url and not result.url:
        result.url, result.url_table, result.url_columns = resolved.url, file, table.columns
    captioned = {row.file for row in resolved.rows if any(caption.kind == "name" for caption in row.captions)}
    known = captioned & result._captioned.keys()
    if not _is_standard(file):
        if not resolved.rows:
            example = next((f", such as {valid_unicode(row.file)!r}" for row in table.rows if row.file), "")
            problem = f"none of its {len(table.rows):,} rows names an image of the folder{example}"
            if resolved.url:
                problem = f"it has URLs instead of image files, such as {resolved.url!r}, and URLs are not downloaded"
            _unread(result, file, UnreadTable.NO_MATCH, problem)
            return
        if not any(row.captions or row.concept or row.split or row.licence for row in resolved.rows):
            _unread(result, file, UnreadTable.NO_CAPTIONS, "it has no column of captions")
            return
        if len(known) * 2 > len(captioned):
            other = valid_unicode(result._captioned[min(known)])
            _unread(result, file, UnreadTable.ANOTHER_TABLE, f"its images have captions from {other}")
            return
    result.used.add(file)
    result._captioned |= dict.fromkeys(captioned - known, file)
    result._splits[file] = [row for row in resolved.rows if not row.split]
    result.rows += resolved.rows
    result.findings += [*table.findings, *resolved.findings]
    result.columns += table.columns


def _unread(result: FolderTables, file: str, reason: UnreadTable, problem: str) -> None:
    result.used.add(file)
    result.findings.append(data_findings.unread_table(valid_unicode(file), reason, valid_unicode(problem)))


def _apply_splits(folder: DataFolder, files: Collection[str], result: FolderTables) -> None:
    """Splits of tables by their names (``train.tsv``, ``val.tsv``), and of lists of images (``testImages.txt``)."""
    by_table = {file: split_in_name(_stem(file)) for file in result._splits}
    if set(by_table.values()) - {""} not in (set(), {"train"}):
        for file, split in by_table.items():
            for row in result._splits[file]:
                row.split = split
    lists = [file for file in files if file not in result.used and file.lower().endswith(".txt")]
    named = {file: split for file in lists if (split := split_in_name(_stem(file)))}
    if len(set(named.values())) < 2:
        return
    images = TailIndex(file for file in folder.files if is_image_name(file))
    rows: dict[str, list[RawRow]] = {}
    for row in result.rows:
        rows.setdefault(row.file, []).append(row)
    for file, split in named.items():
        listed = _listed_images(folder, file, images)
        result.used |= {file} if listed else set()
        for image in listed:
            for row in rows.get(image) or [_add_row(image, result)]:
                row.split = row.split or split


def _add_row(image: str, result: FolderTables) -> RawRow:
    name = valid_unicode(image)
    result.rows.append(RawRow(where=name, id=name, file=image))
    return result.rows[-1]


def _listed_images(folder: DataFolder, file: str, images: TailIndex) -> list[str]:
    """The images that a list with one path in each line names; empty if some of them do not exist."""
    path = folder.root / file
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            return []
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return []
    found = [images.find(line) for line in lines]
    return found if all(found) else []


def _stem(file: str) -> str:
    return posixpath.splitext(posixpath.basename(file))[0]
