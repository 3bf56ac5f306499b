"""The settings of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clerestory.core.settings import Range, check_settings


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """The thresholds of a comparison, and how many flips are stored.

    Attributes:
        margin: the equivalence margin: the largest negligible difference of shares; 0.01 is one point.
        alpha: the family-wise error rate: the probability of claiming any difference that does not exist.
        max_flips: how many flipped samples are stored for each task, family of conditions and direction.
    """

    margin: Annotated[float, Range(0, 1, exclusive_minimum=True, exclusive_maximum=True)] = 0.01
    alpha: Annotated[float, Range(0, 0.5, exclusive_minimum=True, exclusive_maximum=True)] = 0.05
    max_flips: Annotated[int, Range(0)] = 24

    def __post_init__(self) -> None:
        check_settings(self)
