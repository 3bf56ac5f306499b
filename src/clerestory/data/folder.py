"""A folder of pictures, with captions in ``captions.csv|jsonl`` or in a ``.txt`` file beside each picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data import findings as data_findings
from clerestory.data.assemble import assemble
from clerestory.data.columns import Entry
from clerestory.data.image_scan import Seen, look_at_files
from clerestory.data.text_tables import read_table

CAPTION_FILES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
OTHER_PICTURES = {".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".svg"}


def open_folder(folder: Path, progress: Progress = QUIET, keep: Sequence[str] = ()) -> Dataset:
    """Open a folder; sub-folders too, hidden files not. Ids are paths below the folder.

    With columns to ``keep``, each row of its caption file is a sample of its own; see ``fields.Columns``.

    Raises:
        DataError: it has two caption files, or no readable picture.
    """
    tables = [folder / name for name in CAPTION_FILES if (folder / name).is_file()]
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise DataError(f"{folder} has {names}, and only one of them can hold the captions", "remove one of them")
    entries, findings = read_table(tables[0], keep) if tables else ([], [])
    located, more = locate(folder, entries)
    named = {entry.file for entry in located}
    extra, others = _unnamed(folder, named)
    noticed = [*findings, *more, *others]
    return from_files(folder.resolve().name, folder, located + extra, noticed, progress, splits=not keep)


def open_table(path: Path, progress: Progress = QUIET, keep: Sequence[str] = ()) -> Dataset:
    """Open a ``.csv`` or ``.jsonl`` file whose rows name picture files, relative to the table's folder.

    With columns to ``keep``, each row is a sample of its own; see ``fields.Columns``.

    Raises:
        DataError: the table cannot be read, or no readable picture is named in it.
    """
    entries, findings = read_table(path, keep)
    located, more = locate(path.parent, entries)
    return from_files(path.stem, path.parent, located, [*findings, *more], progress, splits=not keep)


def locate(root: Path, entries: list[Entry]) -> tuple[list[Entry], list[Finding]]:
    """Paths as given to paths below ``root``; rows without an id that name the same picture become one."""
    located: list[Entry] = []
    findings: list[Finding] = []
    by_file: dict[str, Entry] = {}
    for entry in entries:
        inside = _inside(root, entry.file)
        if not entry.file:
            findings.append(data_findings.lacking(entry.where, "no picture is named"))
        elif inside is None:
            findings.append(data_findings.outside(entry.where, entry.file))
        elif not entry.id and inside in by_file:
            first = by_file[inside].captions
            first += [caption for caption in entry.captions if caption not in first]
        else:
            entry.file = inside
            if not entry.id:
                entry.id = inside
                by_file[inside] = entry
            located.append(entry)
    return located, findings


def _inside(root: Path, given: str) -> str | None:
    """The path below ``root``, None when it leads outside (also through a link)."""
    try:
        return (root.resolve() / given.replace("\\", "/")).resolve().relative_to(root.resolve()).as_posix()
    except (ValueError, OSError):
        return None


def _unnamed(folder: Path, named: set[str]) -> tuple[list[Entry], list[Finding]]:
    """Entries for pictures that no caption file names, with captions from the text file beside them."""
    entries, findings = [], []
    for path in _walk(folder):
        file = path.relative_to(folder).as_posix()
        kind = path.suffix.lower()
        if file in named or kind not in PICTURES | OTHER_PICTURES:
            continue
        if _inside(folder, file) is None:
            findings.append(data_findings.outside(file, file))
        elif kind in OTHER_PICTURES:
            findings.append(data_findings.unreadable(file, f"a {kind} file is not a JPEG, PNG or WEBP picture"))
        else:
            captions, problems = _sidecar(path, file)
            findings += problems
            entries.append(Entry(where=file, id=file, file=file, captions=captions))
    return entries, findings


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def _sidecar(picture: Path, file: str) -> tuple[list[Caption], list[Finding]]:
    """Captions from ``x.txt`` beside ``x.jpg``, one a line."""
    text_file = picture.with_suffix(".txt")
    try:
        text = text_file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError):
        where = Path(file).with_suffix(".txt").as_posix()
        return [], [data_findings.empty_caption(where, "it is not UTF-8 text; the picture is kept without it")]
    lines = dict.fromkeys(line for raw in text.splitlines() if (line := " ".join(raw.split())))
    if lines:
        return [Caption(line) for line in lines], []
    return [], [data_findings.empty_caption(Path(file).with_suffix(".txt").as_posix(), "the picture is kept without it")]


def from_files(
    name: str,
    root: Path,
    entries: list[Entry],
    findings: list[Finding],
    progress: Progress = QUIET,
    splits: bool = True,
) -> Dataset:
    """The data set of entries whose pictures are files below ``root``; pictures are read when asked for."""
    root = root.resolve()
    seen = look_at_files(root, (entry.file for entry in entries), progress)
    looked: list[tuple[Entry, Seen]] = []
    for entry in entries:
        if entry.file not in seen:
            findings.append(data_findings.missing_file(entry.where, entry.file))
            continue
        entry.source = entry.source or entry.file
        parent = Path(entry.file).parts[:-1]
        if parent:
            entry.groups.setdefault("folder", parent[0])
        looked.append((entry, seen[entry.file]))
    files = {entry.id: entry.file for entry, _ in reversed(looked)}

    def read(sample: Sample) -> bytes:
        path = root / files[sample.id]
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if digest_bytes(content) != sample.image:
            raise IntegrityError(f"{path} has changed since it was opened", "open the data again")
        return content

    return assemble(name, looked, read, findings, splits=splits)
