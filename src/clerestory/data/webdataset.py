"""WebDataset: ``.tar`` archives in which the files of a sample share a name, such as ``0001.jpg``, ``.txt``, ``.json``.

The archives are not unpacked; an image is read from its place in the archive when it is needed. They come from
img2dataset, from the library webdataset, from ``clerestory data shards --kind tar``, or from ``tar`` itself.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clerestory.core.errors import DataError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.files import read_problem
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Caption, Dataset
from clerestory.core.text import valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data.assemble import assemble
from clerestory.data.cells import mapping_of
from clerestory.data.columns import Columns, RawRow
from clerestory.data.data_folder import IGNORED_FOLDER, begins_like_an_image, is_image_name
from clerestory.data.findings import UnreadableImage, UnusedFile
from clerestory.data.identity import ScannedRow
from clerestory.data.image_scan import MAX_FILE_BYTES, file_too_large, scan_image
from clerestory.data.layout import split_in_name
from clerestory.data.sidecars import TEXT_SUFFIXES, json_record, text_captions

MAX_SIDECAR_BYTES = 16 * 2**20
MIB = 2**20

Location = tuple[Path, int, int]


@dataclass(slots=True)
class _Group:
    """The files of an archive that share a name."""

    images: list[ScannedRow] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    captions: list[Caption] = field(default_factory=list)
    record: RawRow | None = None
    label: str = ""


def open_webdataset(path: Path, progress: Progress = QUIET, keep_columns: Sequence[str] = ()) -> Dataset:
    """Open one archive; see ``open_archives``.

    Raises:
        DataError: it is not a tar archive, or has no readable image.
    """
    return open_archives(path.stem, path.resolve().parent, [path.name], (), progress, keep_columns)


def open_archives(
    name: str,
    root: Path,
    files: Sequence[str],
    findings: Sequence[Finding] = (),
    progress: Progress = QUIET,
    keep_columns: Sequence[str] = (),
) -> Dataset:
    """Open archives as one dataset. Ids are the names in the archive, after that of the archive if there are several.

    Captions are the lines of ``.txt`` and those of ``.json``, with the columns of a table; ``.cls`` is the group
    ``class``. The split is the one in the record, else the one that the archive's name mentions.

    Args:
        name: of the dataset.
        root: the folder of the archives.
        files: their paths below it.
        findings: earlier findings about the folder.
        progress: advanced by every MiB.
        keep_columns: not supported.

    Raises:
        DataError: an archive cannot be read, none has a readable image, or ``keep_columns`` is not empty.
    """
    if keep_columns:
        raise DataError(f"{root / files[0]} has no columns", "write the questions and answers in a table")
    rows: list[ScannedRow] = []
    found = list(findings)
    splits: dict[str, list[RawRow]] = {}
    for file in sorted(files):
        label = "" if len(files) == 1 else posixpath.splitext(file)[0]
        archive = _Archive(root / file, valid_unicode(label), progress)
        found += archive.findings
        rows += archive.rows
        split = split_in_name(posixpath.basename(label or file).split(".")[0]) or split_in_name(posixpath.dirname(file))
        splits.setdefault(split, []).extend(row for row, _ in archive.rows if not row.split)
    if set(splits) - {"", "train"}:
        for split, members in splits.items():
            for row in members:
                row.split = split
    return assemble(name, rows, _read, found)


def _read(location: Location) -> bytes:
    path, offset, size = location
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        problem = f"{path} cannot be read: {read_problem(error)}"
        raise IntegrityError(problem, "restore the file, or open the data again") from None


class _Archive:
    """The samples of one archive, and findings about everything else in it."""

    def __init__(self, path: Path, label: str, progress: Progress) -> None:
        self.path, self.label = path, label
        self.rows: list[ScannedRow] = []
        self.findings: list[Finding] = []
        self._unused: defaultdict[UnusedFile, list[str]] = defaultdict(list)
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)
        try:
            size = path.stat().st_size
            with tarfile.open(path, "r:") as archive, progress.task(f"Reading {path.name} (MiB)", size // MIB) as task:
                read = 0
                for member in archive:
                    self._add(archive, member)
                    task.advance(member.offset // MIB - read)
                    read = member.offset // MIB
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            if not self._groups:
                reason = "it is compressed or damaged" if isinstance(error, tarfile.TarError) else str(error)
                raise DataError(
                    f"{path} cannot be read as a tar archive: {reason}", "unpack it, or copy it again"
                ) from None
            problem = f"the archive ends early or is damaged ({error})"
            self.findings.append(
                data_findings.unreadable_image(valid_unicode(path.name), UnreadableImage.DAMAGED, problem)
            )
        self._finish()

    def _name(self, member: str) -> str:
        return posixpath.join(self.label, valid_unicode(member))

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder, base = posixpath.split(posixpath.normpath(member.name))
        if member.isdir():
            return
        if base.startswith(".") or IGNORED_FOLDER in folder.split("/"):
            self._unused[UnusedFile.HIDDEN_FILE].append(member.name)
        elif not member.isreg():
            self._unused[UnusedFile.NOT_A_FILE].append(member.name)
        else:
            stem, _, suffix = base.partition(".")
            group = self._groups[posixpath.join(folder, stem)]
            self._add_file(archive, member, f".{suffix.lower()}", group)

    def _add_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, group: _Group) -> None:
        reader = archive.extractfile(member)
        content = reader.read(16) if reader else b""
        is_image = is_image_name(member.name) or begins_like_an_image(content)
        is_known = suffix in (*TEXT_SUFFIXES, ".json", ".cls") and member.size <= MAX_SIDECAR_BYTES
        if not is_image and not is_known:
            self._unused[UnusedFile.UNKNOWN_FORMAT].append(member.name)
            return
        name = self._name(member.name)
        if is_image and member.size > MAX_FILE_BYTES:
            group.images.append((self._row(member, name), file_too_large()))
            return
        content += reader.read() if reader else b""
        if len(content) < member.size:
            raise EOFError(f"{member.name} is cut off")
        if is_image:
            group.images.append((self._row(member, name), scan_image(content)))
            return
        group.beside.append(member.name)
        if suffix in TEXT_SUFFIXES:
            captions, problems = text_captions(content, name)
            group.captions += captions
            self.findings += problems
        elif suffix == ".json":
            record = json_record(content)
            if record:
                group.record, problems = Columns(record).read_row(record, name)
                group.record.groups = mapping_of(record.get("groups")) or {}
                self.findings += problems
            else:
                self._unused[UnusedFile.SIDECAR].append(member.name)
        else:
            group.label = valid_unicode(content[:1000].decode("utf-8", "replace").strip())

    def _row(self, member: tarfile.TarInfo, name: str) -> RawRow:
        row = RawRow(where=name, id=name, file=name, source=name)
        row.location = (self.path, member.offset_data, member.size)
        return row

    def _finish(self) -> None:
        for group in self._groups.values():
            if not group.images and group.beside:
                self._unused[UnusedFile.NO_IMAGE] += group.beside
            for row, scan in group.images:
                record = group.record or RawRow(row.where)
                texts = {caption.text for caption in record.captions}
                row.captions = [*record.captions, *(c for c in group.captions if c.text not in texts)]
                row.concept, row.licence, row.split = record.concept, record.licence, record.split
                row.groups = {**record.groups, **({"class": group.label} if group.label else {})}
                self.rows.append((row, scan))
        names = {reason: [self._name(file) for file in files] for reason, files in self._unused.items()}
        self.findings += [data_findings.unused_files(reason, files) for reason, files in sorted(names.items())]
