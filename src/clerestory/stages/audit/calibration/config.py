"""The settings of a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clerestory.core.settings import Range, check_settings

MIN_IMAGES = 20  # fewer give intervals that say nothing


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """The extent of a calibration.

    Attributes:
        samples: images of the data in which faults are planted; each gets every kind of fault once.
        seed: of the choice of images and of every planted fault.
    """

    samples: Annotated[int, Range(MIN_IMAGES)] = 200
    seed: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        check_settings(self)
