"""What the names of folders and tables say: the split, and the class below it."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from clerestory.core.sample import TRAIN
from clerestory.data.columns import SPLIT_NAMES, RawRow

# Folders inside of a split that hold all of its images.
PLAIN_FOLDERS = {"image", "images", "img", "imgs", "jpegimages", "photos"}


def split_in_name(name: str) -> str:
    """The split that a name mentions, such as ``train2017``, ``captions_val`` or ``seg_test``; empty if none or two."""
    words = re.split(r"[^a-z]+", name.casefold())
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
    """Set the split and the class of the rows from the folders of their images, where the rows do not have them.

    A class is the folder below a split (``train/cat/1.jpg``), if there are several. Splits by name count only if they
    are not all ``train``, which would leave nothing to test on.

    Args:
        rows: with the paths of their images.
        splits: set splits as well.
    """
    folders = split_folders(row.file for row in rows)
    if not folders:
        return
    found: list[tuple[RawRow, str, str]] = []
    for row in rows:
        parts = row.file.split("/")[:-1]
        depth = next((i for i in range(len(parts)) if "/".join(parts[: i + 1]) in folders), None)
        if depth is not None:
            below = parts[depth + 1] if depth + 1 < len(parts) else ""
            found.append((row, folders["/".join(parts[: depth + 1])], "" if below.lower() in PLAIN_FOLDERS else below))
    is_split = {row.split or split for row, split, _ in found} != {TRAIN}
    has_classes = len({below for _, _, below in found if below}) > 1
    for row, split, below in found:
        row.groups.setdefault("folder", below)
        if splits and is_split:
            row.split = row.split or split
        if has_classes and below:
            row.groups.setdefault("class", below)
