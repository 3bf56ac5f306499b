"""The images of one state of a folder index as pages show them: opaque ids, filters that have a choice, dates."""

from __future__ import annotations

from collections import Counter
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.folder_index import SearchFilter
from clerestory.apps.folder_index.catalog import decode_tags
from clerestory.apps.folder_index.filters import Orientation
from clerestory.apps.folder_index.snapshot import Snapshot
from clerestory.apps.tags import Tag
from clerestory.core.text import valid_unicode

ID_LENGTH = 24  # hexadecimal digits of the SHA-256 of a image
MAX_FOLDERS = 80
# A file system may have times that no calendar has.
EARLIEST, LATEST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (MINYEAR, MAXYEAR))
ORIENTATIONS: tuple[Orientation, ...] = ("landscape", "portrait", "square")


class FolderImage(NamedTuple):
    """One image for a page.

    Attributes:
        id: of its content; says nothing about its path.
        name: of the file.
        folder: below the searched one; empty at its top.
        width, height: pixels.
        num_bytes: of the file.
        taken: seconds since 1970 on a local clock: when it was taken, else last changed.
        num_copies: other files with the same bytes.
    """

    id: str
    name: str
    folder: str
    width: int
    height: int
    num_bytes: int
    taken: int
    num_copies: int = 0

    @property
    def day(self) -> date:
        """When it was taken, else last changed."""
        return datetime.fromtimestamp(min(max(self.taken, EARLIEST), LATEST), UTC).date()

    @property
    def details(self) -> str:
        """Everything about it in one line."""
        parts = [
            f"{self.width:,} × {self.height:,} pixels",
            file_size(self.num_bytes),
            f"{self.day.day} {self.day:%B %Y}",
        ]
        parts += [f"in {self.folder}"] if self.folder else []
        if self.num_copies:
            parts.append("1 more copy" if self.num_copies == 1 else f"{self.num_copies:,} more copies")
        return " · ".join(parts)


class FolderView:
    """The images of one state.

    Args:
        snapshot: of the index.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __len__(self) -> int:
        return len(self.snapshot)

    def prepare(self) -> None:
        """Compute what the pages need, in the background instead of in the first request."""
        _ = (self.newest, self.folders, self.years, self.orientations, self._place_by_id, self.snapshot.places)

    @cached_property
    def newest(self) -> NDArray[np.int64]:
        """The place of each content, the newest first."""
        first = self.snapshot.first_places
        return first[np.argsort(-self.snapshot.dates[first], kind="stable")]

    @cached_property
    def _place_by_id(self) -> dict[str, int]:
        sha256 = self.snapshot.state.sha256
        return {sha256[place][:ID_LENGTH]: place for place in self.snapshot.first_places.tolist()}

    def place(self, image_id: str) -> int | None:
        """The place of a image by its id; None if it is not, or no longer, in the folder."""
        return self._place_by_id.get(image_id)

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of the subfolders with images; see ``_folder_paths``."""
        return tuple(self._folder_paths)

    @cached_property
    def _folder_paths(self) -> dict[str, str]:
        """The subfolders with images by name, sorted; of very many those at the top. None if there is one place only.

        A name is what a page can show: bytes of a path that are not UTF-8 are escapes in it.
        """
        counts: Counter[str] = Counter(path.rpartition("/")[0] for path in self.snapshot.state.paths)
        if len(counts) < 2:
            return {}
        names = set(filter(None, counts))
        if len(names) > MAX_FOLDERS:
            names = {name.partition("/")[0] for name in names}
        return dict(sorted((valid_unicode(name), name) for name in names)[: 2 * MAX_FOLDERS])

    @cached_property
    def years(self) -> tuple[int, ...]:
        """The years of the images, the newest first; none if they are all of one year."""
        found = np.unique(self.snapshot.dates.astype("datetime64[s]").astype("datetime64[Y]")).astype(int) + 1970
        years = [year for year in found[::-1].tolist() if MINYEAR <= year <= MAXYEAR]
        return tuple(years) if len(years) > 1 else ()

    @cached_property
    def orientations(self) -> tuple[Orientation, ...]:
        """The orientations of the images; none if they all have the same one."""
        state = self.snapshot.state
        found = tuple(each for each in ORIENTATIONS if SearchFilter(orientation=each).mask(state).any())
        return found if len(found) > 1 else ()

    def filters(self, under: str, year: str, orientation: str) -> SearchFilter:
        """The conditions of a request; values that the page does not offer are left out."""
        chosen = int(year) if year in map(str, self.years) else 0
        return SearchFilter(
            under=self._folder_paths.get(under, ""),
            after=date(chosen, 1, 1) if chosen else None,
            before=date(chosen, 12, 31) if chosen else None,
            orientation=next((each for each in self.orientations if each == orientation), ""),
        )

    def matching(self, filters: SearchFilter) -> NDArray[np.int64]:
        """The place of each content that meets the conditions, the newest first."""
        if filters == SearchFilter():
            return self.newest
        first = self.snapshot.accepted_places(filters)
        return first[np.argsort(-self.snapshot.dates[first], kind="stable")]

    def count(self, filters: SearchFilter) -> int:
        """The number of images that meet the conditions."""
        return len(self.snapshot.accepted_places(filters))

    def image(self, place: int, num_copies: int = 0) -> FolderImage:
        """The image at a place."""
        state = self.snapshot.state
        folder, _, name = valid_unicode(state.paths[place]).rpartition("/")
        return FolderImage(
            state.sha256[place][:ID_LENGTH],
            name,
            folder,
            int(state.widths[place]),
            int(state.heights[place]),
            int(state.sizes[place]),
            int(self.snapshot.dates[place]),
            num_copies,
        )

    def tags(self, place: int) -> tuple[Tag, ...] | None:
        """What the photograph at a place shows; empty means "not sure", None that there are no tags to be had."""
        return decode_tags(self.snapshot.state.tags[place])


def file_size(num_bytes: int) -> str:
    """A size for people: ``240 kB``, ``3.4 MB``."""
    if num_bytes < 1_000_000:
        return f"{max(1, round(num_bytes / 1000))} kB"
    return f"{num_bytes / 1e6:.1f} MB"
