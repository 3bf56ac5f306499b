"""Results as files: a folder of links to the images, numbered by rank."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from clerestory.core.outputs import output_folder


def write_links(files: Sequence[Path], folder: Path) -> str:
    """Write a new folder with a link to each file: ``01-beach.jpg``, ``02-boat.jpg``, ….

    Symbolic links; where the file system has none, hard links, else copies.

    Returns:
        The kind of files: ``links``, ``hard links`` or ``copies``; of several, the last one.

    Raises:
        InputError: the folder exists and is not empty, or cannot be written.
    """
    digits = max(2, len(str(len(files))))
    kind = "links"
    with output_folder(folder) as temporary:
        for rank, file in enumerate(files, start=1):
            kind = _link(file, temporary / f"{rank:0{digits}d}-{file.name}")
    return kind


def _link(file: Path, link: Path) -> str:
    try:
        link.symlink_to(file)
    except (OSError, NotImplementedError):
        try:
            os.link(file, link)
        except OSError:
            shutil.copy2(file, link)
            return "copies"
        return "hard links"
    return "links"
