"""The files of a data folder: listed when they are needed, never outside of the folder, and found by name.

Paths are relative to the folder, with forward slashes. As in ``os.fsdecode``, a byte of a name that is not UTF-8 is a
surrogate.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.core.files import read_problem
from clerestory.core.text import loose_name, valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data.findings import UnusedFile

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp"))
OTHER_IMAGE_SUFFIXES = frozenset(
    (*(".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg"), *(".ico", ".psd", ".dng"))
)
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")
IGNORED_FOLDER = "__MACOSX"


def is_image_name(name: str) -> bool:
    """Whether the suffix is that of an image, in a supported format or another one."""
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES | OTHER_IMAGE_SUFFIXES


def begins_like_an_image(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of an image, whatever its name."""
    return head.startswith(_SIGNATURES) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP")


class OutsideFolder(DataError):
    """A path, or a link on it, leads out of the data folder."""


@dataclass(slots=True)
class FolderEntries:
    """What one folder contains, by name.

    Attributes:
        files, folders: its files and sub-folders, sorted.
        outside: links that lead out of the data folder.
        unused: everything else, with the reason.
        problem: why the folder cannot be read; empty if it can.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    unused: dict[str, UnusedFile] = field(default_factory=dict)
    problem: str = ""


class NameIndex:
    """Finds one of some names: exactly, else the only one that looks the same, else the only image with this stem.

    Names look the same if they differ only in the composition of accents, in blanks, or in upper and lower case.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._exact = set(names)
        self._loose: defaultdict[str, set[str]] = defaultdict(set)
        for name in names:
            stem = posixpath.splitext(name)[0]
            keys = [name, stem] if is_image_name(name) else [name]
            for key in map(loose_name, keys):
                self._loose[key].add(name)
                self._loose[key.casefold()].add(name)

    def find(self, name: str) -> str:
        """The name as it is written in the folder; empty if none, or more than one, is meant."""
        if name in self._exact:
            return name
        loose = loose_name(name)
        for key in (loose, loose.casefold()):
            candidates = self._loose.get(key, ())
            if len(candidates) == 1:
                return next(iter(candidates))
        return ""


class DataFolder:
    """A folder of data.

    Args:
        root: the folder. A link in it is followed only to a file inside the folder, or to the stored files of the
            download from the Hugging Face hub that the folder belongs to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.name = valid_unicode(self.root.name)
        self._allowed = [self.root]
        for folder in (self.root, *self.root.parents):
            if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
                self._allowed.append(folder.parent.parent / "blobs")
        self._entries: dict[str, FolderEntries] = {}
        self._file_names: dict[str, NameIndex] = {}
        self._folder_names: dict[str, NameIndex] = {}

    def entries(self, folder: str = "") -> FolderEntries:
        """What a sub-folder contains; read once."""
        if folder not in self._entries:
            self._entries[folder] = self._read(folder)
        return self._entries[folder]

    def walk(self) -> Iterator[tuple[str, FolderEntries]]:
        """Every folder with its entries, first the data folder itself as ``""``."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            entries = self.entries(folder)
            yield folder, entries
            waiting += [posixpath.join(folder, name) for name in reversed(entries.folders)]

    @cached_property
    def files(self) -> list[str]:
        """Every file of the folder and its sub-folders."""
        return [posixpath.join(folder, name) for folder, entries in self.walk() for name in entries.files]

    def findings(self) -> list[Finding]:
        """A finding for everything that is not a file of the data: hidden, linked elsewhere, unreadable, empty."""
        found: list[Finding] = []
        unused: defaultdict[UnusedFile, list[str]] = defaultdict(list)
        for folder, entries in self.walk():
            if entries.problem:
                found.append(data_findings.unreadable_folder(valid_unicode(folder) or ".", entries.problem))
            elif folder and not (entries.files or entries.folders or entries.outside or entries.unused):
                unused[UnusedFile.EMPTY_FOLDER].append(folder)
            for name in entries.outside:
                file = valid_unicode(posixpath.join(folder, name))
                found.append(data_findings.outside_folder(file, file))
            for name, reason in entries.unused.items():
                unused[reason].append(posixpath.join(folder, name))
        return found + [data_findings.unused_files(reason, files) for reason, files in sorted(unused.items())]

    def find(self, path: str, base: str = "") -> str:
        """The file that a path relative to the sub-folder ``base`` names; empty if there is none.

        Raises:
            OutsideFolder: the path leads out of the data folder.
        """
        path = path.replace("\\", "/")
        if path.startswith("/"):
            path, base = os.path.relpath(os.path.realpath(path), self.root).replace("\\", "/"), ""
        path = posixpath.normpath(posixpath.join(base, path))
        if path == ".." or path.startswith("../"):
            raise OutsideFolder(path)
        *parents, name = path.split("/")
        folder = self._find_folder(parents)
        if folder is None:
            return ""
        if folder not in self._file_names:
            self._file_names[folder] = NameIndex([*self.entries(folder).files, *self.entries(folder).outside])
        match = self._file_names[folder].find(name)
        if match in self.entries(folder).outside:
            raise OutsideFolder(path)
        return posixpath.join(folder, match) if match else ""

    def names(self, folder: str) -> list[str]:
        """The files of a sub-folder, given as in a table; empty if it does not exist.

        Raises:
            OutsideFolder: the path leads out of the data folder.
        """
        path = posixpath.normpath(folder)
        if path.startswith(("../", "/")) or path == "..":
            raise OutsideFolder(path)
        match = self._find_folder([] if path == "." else path.split("/"))
        return [] if match is None else self.entries(match).files

    def _find_folder(self, parents: list[str]) -> str | None:
        folder = "/".join(parents)
        if folder in self._entries:
            return folder
        folder = ""
        for parent in parents:
            entries = self.entries(folder)
            if parent in entries.outside:
                raise OutsideFolder(parent)
            if folder not in self._folder_names:
                self._folder_names[folder] = NameIndex(entries.folders)
            match = self._folder_names[folder].find(parent)
            if not match:
                return None
            folder = posixpath.join(folder, match)
        return folder

    def _read(self, folder: str) -> FolderEntries:
        result = FolderEntries()
        try:
            with os.scandir(self.root / folder) as scan:
                listed = sorted(scan, key=lambda entry: entry.name)
        except (OSError, ValueError) as error:
            result.problem = read_problem(error) if isinstance(error, OSError) else str(error)
            return result
        for entry in listed:
            if entry.name.startswith(".") or entry.name == IGNORED_FOLDER:
                result.unused[entry.name] = UnusedFile.HIDDEN_FILE
            elif entry.is_symlink():
                self._read_link(entry, result)
            elif entry.is_dir():
                result.folders.append(entry.name)
            elif entry.is_file():
                result.files.append(entry.name)
            else:
                result.unused[entry.name] = UnusedFile.NOT_A_FILE
        return result

    def _read_link(self, entry: os.DirEntry[str], result: FolderEntries) -> None:
        try:
            target = Path(entry.path).resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a link to itself
            result.unused[entry.name] = UnusedFile.BROKEN_LINK
            return
        if not any(target.is_relative_to(allowed) for allowed in self._allowed):
            result.outside.append(entry.name)
        elif target.is_file():
            result.files.append(entry.name)
        else:
            result.unused[entry.name] = UnusedFile.LINK_WITHIN if target.is_dir() else UnusedFile.NOT_A_FILE


class TailIndex:
    """Finds files by the end of a path, for tables whose paths are relative to another folder.

    Args:
        files: all files that may be meant.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for file in files:
            name = loose_name(posixpath.basename(file)).casefold()
            self._by_name[name].append(file)
            self._by_name[posixpath.splitext(name)[0]].append(file)

    def find(self, path: str, hint: str = "") -> str:
        """The only file at the longest end of ``path``; of several, the only one in a folder that ``hint`` names."""
        parts = loose_name(path.replace("\\", "/")).casefold().split("/")
        candidates = self._by_name.get(parts[-1], [])
        for length in range(min(len(parts) - 1, 8), -1, -1):
            parents = parts[len(parts) - 1 - length : -1]
            hits = [file for file in candidates if _parents(file)[-length or 8192 :][:length] == parents]
            if len(hits) > 1 and hint:
                words = set(re.split(r"[\W_]+", hint.casefold()))
                hits = [file for file in hits if words & set(_parents(file))]
            if hits:
                return hits[0] if len(hits) == 1 else ""
        return ""


def _parents(file: str) -> list[str]:
    return loose_name(file).casefold().split("/")[:-1]
