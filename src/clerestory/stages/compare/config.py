"""The settings of a comparison."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """When a difference counts, and how much is shown.

    Attributes:
        margin: the largest difference of shares that does not matter; 0.01 is one point.
        alpha: how often a difference may be claimed where there is none, over all lines of a family together.
        flips: how many flipped samples are kept for each task, family of conditions and direction.
    """

    margin: float = 0.01
    alpha: float = 0.05
    flips: int = 24

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ConfigError(f"a margin of {self.margin:g} cannot be shown", "give a share above 0, such as 0.01")
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"alpha = {self.alpha:g} is no share of errors to accept", "give one such as 0.05")
        if self.flips < 0:
            raise ConfigError(f"{self.flips} flipped samples cannot be kept", "give 0 or more")
