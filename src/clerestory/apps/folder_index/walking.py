"""Listing a folder: which files are images, without opening those that are known."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clerestory.core.files import read_problem
from clerestory.data.caption_tables import SPREADSHEET_SUFFIXES
from clerestory.data.data_folder import (
    IGNORED_FOLDER,
    IMAGE_SUFFIXES,
    OTHER_IMAGE_SUFFIXES,
    begins_like_an_image,
    is_image_name,
)
from clerestory.data.sidecars import TEXT_SUFFIXES
from clerestory.data.text_tables import TABLE_SUFFIXES

Stamp = tuple[int, int, int]  # size in bytes, time of the last change in ns, inode
MAX_INTEGER = 2**63 - 1  # of SQLite
OUTSIDE = "it is a link to a file outside the folder, which is not followed"
OUTSIDE_FOLDER = "it is a link to a folder outside this one, which is not followed"
CAPTION_SUFFIXES = TABLE_SUFFIXES | SPREADSHEET_SUFFIXES | frozenset(TEXT_SUFFIXES)
OTHER_SUFFIXES = frozenset(
    (*(".xml", ".xmp", ".html", ".pdf", ".md", ".py", ".zip", ".tar", ".gz", ".mp4", ".mov", ".avi", ".mkv", ".mp3"),)
    + (".wav", ".aae", ".db", ".toml", ".yaml", ".yml", ".log", ".ini", ".npy", ".safetensors")
)


@dataclass(slots=True)
class Listing:
    """The files of a folder at one moment.

    Attributes:
        images: the stamp of every file that may be an image, by its path below the folder.
        tables: the stamps of files that may hold captions: tables, and texts beside images.
        others: the stamps of files of unknown kind, which were looked into and are not images.
        problems: why a folder or a link was not read, by its path.
        unread: the folders and files that could not be read now, whose images are not forgotten. ``.`` is all.
    """

    images: dict[str, Stamp] = field(default_factory=dict)
    tables: dict[str, Stamp] = field(default_factory=dict)
    others: dict[str, Stamp] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)

    def add_error(self, path: str, error: OSError) -> None:
        """A folder or file cannot be read now."""
        self.problems[path] = read_problem(error)
        self.unread.add(path)

    def is_unread(self, path: str) -> bool:
        """Whether a file, or a folder above it, could not be read."""
        while path and self.unread:
            if path in self.unread:
                return True
            path = path.rpartition("/")[0]
        return "." in self.unread


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file, in integers of 63 bits and a sign: some file systems have larger inodes, or wild times."""
    changed = max(-MAX_INTEGER, min(status.st_mtime_ns, MAX_INTEGER))
    return status.st_size, changed, status.st_ino & MAX_INTEGER


def list_images(root: Path, is_known_other: Callable[[str, Stamp], bool] = lambda path, stamp: False) -> Listing:
    """List the images of a folder and its subfolders, without hidden files and folders.

    A link to a file or folder inside the folder is left out, because the file itself is listed; one that leads outside
    is a problem. A file with an unknown suffix is an image if it begins like one.

    Args:
        root: the folder.
        is_known_other: whether an unknown file with this path and stamp was looked into before and is not an image.
    """
    listing = Listing()
    top = os.path.realpath(root)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(top, folder)) as entries:
                for entry in entries:
                    _sort_in(entry, folder, top, listing, waiting, is_known_other)
        except OSError as error:
            listing.add_error(folder or ".", error)
    return listing


def has_images(root: Path) -> bool:
    """Whether a folder or one of its subfolders has a file with the name of an image; stops at the first one."""
    waiting = [str(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == IGNORED_FOLDER:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif is_image_name(entry.name):
                        return True
        except OSError:
            continue
    return False


def has_only_folder_links(root: Path) -> bool:
    """Whether a folder contains nothing but links to folders, which are not followed."""
    try:
        with os.scandir(root) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
            return bool(shown) and all(entry.is_symlink() and entry.is_dir() for entry in shown)
    except OSError:
        return False


def _sort_in(
    entry: os.DirEntry[str],
    folder: str,
    top: str,
    listing: Listing,
    waiting: list[str],
    is_known_other: Callable[[str, Stamp], bool],
) -> None:
    name = entry.name
    if name.startswith(".") or name == IGNORED_FOLDER:
        return
    path = f"{folder}/{name}" if folder else name
    if entry.is_dir(follow_symlinks=False):
        waiting.append(path)
        return
    suffix = posixpath.splitext(name)[1].lower()
    is_image = suffix in IMAGE_SUFFIXES or suffix in OTHER_IMAGE_SUFFIXES
    if entry.is_symlink():
        is_folder = os.path.isdir(entry.path)
        if (is_folder or is_image) and os.path.commonpath((top, os.path.realpath(entry.path))) != top:
            listing.problems[path] = OUTSIDE_FOLDER if is_folder else OUTSIDE
        return
    if suffix in OTHER_SUFFIXES:
        return
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        listing.add_error(path, error)
        return
    if not stat.S_ISREG(status.st_mode):
        if is_image:
            listing.problems[path] = "it is a pipe, a device or a socket, not a file"
        return
    stamp = stamp_of(status)
    if suffix in CAPTION_SUFFIXES:
        listing.tables[path] = stamp
    elif is_image or (not is_known_other(path, stamp) and _is_image(entry.path)):
        listing.images[path] = stamp
    else:
        listing.others[path] = stamp


def _is_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return begins_like_an_image(file.read(16))
    except OSError:
        return False
