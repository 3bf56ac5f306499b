"""Images that were kept with consent, so that a corrected caption can become a sample: one file for each response.

Nothing is kept unless the setting says so. The files are named by the id of the response and not by their content, so
that erasing one person's image never leaves it under the name of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from clerestory.core.files import make_folder, write_atomic

FOLDER = "kept-images"
_ID = re.compile(r"[A-Za-z0-9_-]{8,64}", re.ASCII)


class KeptImages:
    """The kept images of one store.

    Args:
        files: the folder with the files of the store.
    """

    def __init__(self, files: Path) -> None:
        self.folder = files / FOLDER

    def keep(self, response: str, content: bytes) -> None:
        """Keep the image of a response, readable by the owner of the store only.

        Raises:
            OSError: the disk is full or read-only.
        """
        if _ID.fullmatch(response):
            make_folder(self.folder)
            write_atomic(self.folder / response, content, mode=0o600)

    def read(self, response: str) -> bytes | None:
        """The image of a response; None if none was kept."""
        if _ID.fullmatch(response):
            with suppress(OSError):
                return (self.folder / response).read_bytes()
        return None

    def has(self, response: str) -> bool:
        """Whether the image of a response was kept."""
        return bool(_ID.fullmatch(response)) and (self.folder / response).is_file()

    def remove(self, responses: Iterable[str]) -> int:
        """Remove the images of responses; how many there were."""
        removed = 0
        for each in responses:
            if self.has(each):
                (self.folder / each).unlink(missing_ok=True)
                removed += 1
        return removed

    def remove_before(self, moment: float) -> int:
        """Remove the images that were kept before a moment, in seconds since the epoch; how many there were."""
        removed = 0
        with suppress(OSError):
            for path in self.folder.iterdir():
                with suppress(OSError):
                    if path.stat().st_mtime < moment:
                        path.unlink()
                        removed += 1
        return removed
