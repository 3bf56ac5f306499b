"""What the names of folders and tables say: the split, and the class below it."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from clerestory.core.sample import TRAIN
from clerestory.core.text import valid_unicode
from clerestory.data.columns import SPLIT_NAMES, RawRow

# Folders inside of a split that hold all of its images.
PLAIN_FOLDERS = {"image", "images", "img", "imgs", "jpegimages", "photos"}


def split_in_name(name: str) -> str:
    """The split that a name mentions, as in ``train2017``, ``captions_val``, ``trainImages``; empty if none or two."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else ""


def split_folders(files: Iterable[str]) -> dict[str, str]:
    """The folders that are splits, with the split of each.

    They are the sub-folders of one folder of which at least two mention different splits, or all of which mention one.

    Args:
        files: the images.
    """
    children: defaultdict[str, set[str]] = defaultdict(set)
    for folder in {posixpath.dirname(file) for file in files}:
        parts = folder.split("/") if folder else []
        for depth, name in enumerate(parts):
            children["/".join(parts[:depth])].add(name)
    found: dict[str, str] = {}
    for parent, names in children.items():
        splits = {posixpath.join(parent, name): split for name in names if (split := split_in_name(name))}
        if len(set(splits.values())) > 1 or (splits and len(splits) == len(names)):
            found |= splits
    return found


def apply_layout(rows: Sequence[RawRow], splits: bool = True) -> None:
    """Set split and groups from the folders of the images, where the rows do not have them.

    The folder below a split (``train/cat/1.jpg``) is the group ``class``; without splits, the first folder is the group
    ``folder``. Splits by name count only if they are not all ``train``, which would leave nothing to test on.

    Args:
        rows: with the paths of their images.
        splits: set splits as well.
    """
    folders = split_folders(row.file for row in rows)
    in_split: list[tuple[RawRow, str]] = []
    for row in rows:
        parts = row.file.split("/")[:-1]
        depth = next((i for i in range(len(parts)) if "/".join(parts[: i + 1]) in folders), None)
        if depth is not None:
            in_split.append((row, folders["/".join(parts[: depth + 1])]))
            parts = [part for part in parts[depth + 1 :] if part.lower() not in PLAIN_FOLDERS]
        if parts:
            row.groups.setdefault("folder" if depth is None else "class", valid_unicode(parts[0]))
    if splits and {row.split or split for row, split in in_split} != {TRAIN}:
        for row, split in in_split:
            row.split = row.split or split
