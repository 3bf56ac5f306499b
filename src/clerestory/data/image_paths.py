"""From the paths in a table to the files of a data folder."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from clerestory.core.errors import DataError, closest
from clerestory.core.evidence import Finding
from clerestory.core.text import valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data.columns import Columns, RawRow
from clerestory.data.data_folder import DataFolder, OutsideFolder, TailIndex, is_image_name
from clerestory.data.findings import IncompleteRow

MAX_SUGGESTIONS = 20  # rows for which a name is suggested,
MAX_NAMES = 5000  # in folders of at most this number of names
_URL = re.compile(r"(?:[a-z][a-z0-9+.\-]*:)?//[^/]|data:image/", re.IGNORECASE)
_CAPTION_NUMBER = re.compile(r"#\d+$")  # of Flickr8k and Flickr30k: a.jpg#0 … a.jpg#4


@dataclass(slots=True)
class ResolvedRows:
    """The rows of a table after their paths were looked up.

    Attributes:
        rows: those whose image is a file of the folder; ``file`` is its path, ``id`` the same if the table has none.
        findings: one for each other row, or for several of them.
        url: the first URL of an image among the paths; empty if there is none.
    """

    rows: list[RawRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    url: str = ""


def resolve_paths(folder: DataFolder, rows: Sequence[RawRow], table: str) -> ResolvedRows:
    """Look up the paths of the rows of a table.

    Paths are relative to the folder of the table, or to the data folder. If no row names a file there, they are
    compared with the ends of the paths of all images.

    Args:
        folder: the data.
        rows: of the table; ``file`` becomes the path in the folder.
        table: the path of the table in the folder.
    """
    result = ResolvedRows()
    missing: list[tuple[RawRow, bool]] = []
    urls: list[str] = []
    for row in rows:
        if not row.file:
            result.findings.append(data_findings.incomplete_row(row.where, IncompleteRow.NO_IMAGE))
        elif _URL.match(row.file):
            urls.append(row.file)
        else:
            file, is_outside = _find(folder, row.file, posixpath.dirname(table))
            if file:
                _found(row, file, result)
            else:
                missing.append((row, is_outside))
    if missing and not result.rows:
        missing = _find_by_tails(folder, missing, table, result)
    for number, (row, is_outside) in enumerate(missing):
        path = valid_unicode(row.file)
        if is_outside:
            result.findings.append(data_findings.outside_folder(row.where, path))
        else:
            names = _similar_names(folder, row.file, table) if number < MAX_SUGGESTIONS else ()
            result.findings.append(data_findings.missing_file(row.where, path, names))
    if urls:
        result.url = valid_unicode(urls[0])
        result.findings.append(data_findings.image_urls(valid_unicode(table), len(urls), result.url))
    return result


def urls_error(path: Path, url: str, columns: Columns) -> DataError:
    """The error for a table that has only URLs, with the command that downloads the images."""
    form = path.suffix.lower().removeprefix(".").replace("ndjson", "jsonl")
    captions = f" --caption_col {quote(columns.captions[0][0])}" if columns.captions else ""
    command = (
        f"img2dataset --url_list {quote(str(path))} --input_format {form} --url_col {quote(columns.image)}{captions} "
        "--output_format files --output_folder images"
    )
    return DataError(
        f"{path} has URLs instead of image files, such as {url!r}, and URLs are not downloaded",
        f"download the images with: pip install img2dataset && {command}; then add the folder images",
    )


def _found(row: RawRow, file: str, result: ResolvedRows) -> None:
    row.file = file
    row.id = row.id or valid_unicode(file)
    result.rows.append(row)


def _find(folder: DataFolder, path: str, base: str) -> tuple[str, bool]:
    """The file, and whether the path leads out of the folder."""
    is_outside = False
    for name in dict.fromkeys((path, _CAPTION_NUMBER.sub("", path))):
        for start in dict.fromkeys((base, "")):
            try:
                if file := folder.find(name, start):
                    return file, False
            except OutsideFolder:
                is_outside = True
    return "", is_outside


def _find_by_tails(
    folder: DataFolder, missing: Sequence[tuple[RawRow, bool]], table: str, result: ResolvedRows
) -> list[tuple[RawRow, bool]]:
    """Find rows by the ends of their paths; returns those that are still missing."""
    tails = TailIndex(file for file in folder.files if is_image_name(file))
    rest: list[tuple[RawRow, bool]] = []
    bases: Counter[str] = Counter()
    for row, is_outside in missing:
        path = _CAPTION_NUMBER.sub("", row.file)
        file = tails.find(path, posixpath.splitext(posixpath.basename(table))[0])
        if file:
            bases[_base(file, path)] += 1
            _found(row, file, result)
        else:
            rest.append((row, is_outside))
    if bases:
        base = valid_unicode(bases.most_common(1)[0][0])
        result.findings.append(data_findings.other_base_folder(valid_unicode(table), base))
    return rest


def _base(file: str, path: str) -> str:
    """The folder to which a path is relative, if it leads to a file."""
    below = path.replace("\\", "/").count("/")
    parents = file.split("/")[:-1]
    return "/".join(parents[: max(len(parents) - below, 0)]) or "."


def _similar_names(folder: DataFolder, path: str, table: str) -> tuple[str, ...]:
    parent, name = posixpath.split(path.replace("\\", "/"))
    for base in dict.fromkeys((posixpath.dirname(table), "")):
        try:
            names = folder.names(posixpath.join(base, parent))
        except OutsideFolder:
            continue
        if names and len(names) <= MAX_NAMES:
            return tuple(valid_unicode(match) for match in closest(name, filter(is_image_name, names))[:1])
    return ()
