"""Which images of a folder a search may return."""

from __future__ import annotations

import calendar
import fnmatch
import os
import posixpath
import re
import time
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.folder_index.catalog import CatalogState
from clerestory.core.errors import InputError, not_found
from clerestory.core.files import expand_user
from clerestory.core.text import valid_unicode

Orientation = Literal["", "landscape", "portrait", "square"]
DAY_SECONDS = 86_400
SQUARE = 0.05  # an image is square if its sides differ by at most this share


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Conditions that an image must meet, all of them; the default accepts every image.

    Attributes:
        under: a subfolder, relative to the folder.
        name: a pattern of the file name, such as ``IMG_2*.jpg``; upper and lower case are the same.
        after, before: dates, both included: when the photograph was taken, else when the file was last changed.
        orientation: landscape, portrait or square.
        min_side: the fewest pixels of the shorter side.
    """

    under: str = ""
    name: str = ""
    after: date | None = None
    before: date | None = None
    orientation: Orientation = ""
    min_side: int = 0

    def mask(self, state: CatalogState) -> NDArray[np.bool_]:
        """Whether each image (N) meets the conditions."""
        mask = np.minimum(state.widths, state.heights) >= self.min_side
        if folder := _normal(self.under):
            begin, end = _range_below(state, folder)
            mask[:begin] = mask[end:] = False
        if self.name:
            matches = re.compile(fnmatch.translate(self.name), re.IGNORECASE).match
            names = (path.rpartition("/")[2] for path in state.paths)
            mask &= np.fromiter((matches(name) is not None for name in names), bool, len(state.paths))
        if self.orientation:
            mask &= _has_orientation(state, self.orientation)
        if self.after or self.before:
            dates = local_dates(state)
            if self.after:
                mask &= dates >= _midnight(self.after)
            if self.before:
                mask &= dates < _midnight(self.before) + DAY_SECONDS
        return mask


def _normal(under: str) -> str:
    """A subfolder without ``./``, slashes at its ends and ``a/../``; empty for the folder itself."""
    folder = posixpath.normpath(under.strip("/")) if under.strip("/") else ""
    return "" if folder == "." else folder


def _range_below(state: CatalogState, folder: str) -> tuple[int, int]:
    """The places of the images in a subfolder: paths are in the order of their bytes, so they follow one another."""
    begin, end = (bisect_left(state.paths, os.fsencode(folder + mark), key=os.fsencode) for mark in "/0")
    return begin, end


def check_under(under: str, folder: Path, state: CatalogState) -> str:
    """The subfolder that was named, relative to the indexed folder, such as ``holidays/2023``.

    Args:
        under: as it was given; may be an absolute path in the folder.
        folder: the indexed folder, absolute.
        state: its images.

    Raises:
        NotFound: no image is in such a subfolder; names the closest ones that have images.
    """
    path = expand_user(under)
    if path.is_absolute() and path.resolve().is_relative_to(folder):
        under = path.resolve().relative_to(folder).as_posix()
    name = _normal(under)
    begin, end = _range_below(state, name)
    if name and begin == end:
        subfolders: set[str] = set()
        for parent in {each.rpartition("/")[0] for each in state.paths}:
            parts = parent.split("/")
            subfolders |= {valid_unicode("/".join(parts[: i + 1])) for i in range(len(parts))}
        raise not_found("subfolder with images", valid_unicode(under), subfolders - {""})
    return name


def local_dates(state: CatalogState) -> NDArray[np.int64]:
    """The date of each image (N), as seconds since 1970 on a local clock: taken, else last changed."""
    hours, hour_of = np.unique(state.changed // 3600, return_inverse=True)
    offsets = np.array([time.localtime(hour * 3600).tm_gmtoff for hour in hours.tolist()], dtype=np.int64)
    dates: NDArray[np.int64] = np.where(state.taken >= 0, state.taken, state.changed + offsets[hour_of])
    return dates


def local_clock(seconds: int) -> int:
    """What a local clock showed at a time, as seconds since 1970."""
    return calendar.timegm(time.localtime(seconds))


def parse_date(text: str, option: str, last_day: bool = False) -> date | None:
    """A date as ``2024-05-31``, or the first or last day of ``2024-05`` or ``2024``; None for an empty text.

    Raises:
        InputError: it is not a date; names the option.
    """
    if not text:
        return None
    for pattern in ("%Y-%m-%d", "%Y-%m", "%Y"):
        try:
            day = datetime.strptime(text, pattern).date()  # noqa: DTZ007 a date of the local calendar
        except ValueError:
            continue
        if not last_day or "%d" in pattern:
            return day
        month = day.month if "%m" in pattern else 12
        return date(day.year, month, calendar.monthrange(day.year, month)[1])
    raise InputError(f"{option} is {text!r}, which is not a date", f"write it as {option} 2024-05-31")


def _midnight(day: date) -> int:
    return calendar.timegm(day.timetuple())


def _has_orientation(state: CatalogState, orientation: str) -> NDArray[np.bool_]:
    ratio = state.widths / np.maximum(state.heights, 1)
    is_square = np.abs(ratio - 1) <= SQUARE
    if orientation == "square":
        return is_square
    return ~is_square & ((ratio > 1) if orientation == "landscape" else (ratio < 1))
