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
OUTSIDE = "it is a link to a file outside the folder, which is not followed"
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
    """

    images: dict[str, Stamp] = field(default_factory=dict)
    tables: dict[str, Stamp] = field(default_factory=dict)
    others: dict[str, Stamp] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def list_images(root: Path, is_known_other: Callable[[str, Stamp], bool] = lambda path, stamp: False) -> Listing:
    """List the images of a folder and its subfolders, without hidden files and folders.

    A link to a file inside the folder is left out, because the file itself is listed; one that leads outside is a
    problem. A file with an unknown suffix is an image if it begins like one.

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
            listing.problems[folder or "."] = read_problem(error)
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
    if suffix in OTHER_SUFFIXES:
        return
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if is_image and os.path.commonpath((top, target)) != top:
            listing.problems[path] = OUTSIDE
        return
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        listing.problems[path] = read_problem(error)
        return
    if not stat.S_ISREG(status.st_mode):
        if is_image:
            listing.problems[path] = "it is a pipe, a device or a socket, not a file"
        return
    stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
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
