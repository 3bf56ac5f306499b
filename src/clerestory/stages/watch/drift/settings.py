"""The settings of drift detection, section ``[drift]`` of ``serve.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clerestory.core.settings import Range, check_settings

MIN_WINDOW = 8


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """How traffic is compared with the reference.

    Attributes:
        enabled: whether a server watches for drift.
        max_false_alarms_per_year: the expected number of false alarms a year, of all monitors and slices together.
        window: the number of observations that are compared at a time; the reference needs four times as many.
        subject_hours: one person counts once in this many hours, and once in a window; 0 for windows only.
        slice_by: columns or facts, each frequent value of which is watched on its own, such as ``style``.
        columns: further columns of a log to watch, beside those with known names.
        windows_per_false_alarm: the average number of windows between two false alarms, for a log without times.
        keep_images: how many live images a server keeps as thumbnails for the page of an alarm; 0 for none.
        seed: of the random features and of the order of the reference.
    """

    enabled: bool = True
    max_false_alarms_per_year: Annotated[float, Range(0, 1000, exclusive_minimum=True)] = 1.0
    window: Annotated[int, Range(MIN_WINDOW, 4096)] = 32
    subject_hours: Annotated[float, Range(0, 8760)] = 24.0
    slice_by: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    windows_per_false_alarm: Annotated[int, Range(100, 10**9)] = 100_000
    keep_images: Annotated[int, Range(0, 1000)] = 0
    seed: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        check_settings(self)
