"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.errors import ConfigError
from clerestory.core.sample import TEST, TEST_STYLE


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What to measure, and on how much.

    Attributes:
        splits: the splits to evaluate on. Data in which no sample has a split is evaluated whole, as split ``all``.
        lang: the language of the captions to use (BCP 47; ``en`` takes ``en-GB`` too).
        slice_by: groups by whose values the retrieval measurements are given once more.
        slice_concepts: a slice with fewer concepts than this is not measured (a finding says so).
        described: how many pictures of each split are described for caption quality, 0 for none.
        suggestions: how many descriptions of a picture are asked for; the best of them is scored as well.
        timed: how many single requests are timed per operation, 0 for none. Bounding the 95th percentile takes 72.
        warm_up: how many requests go before them untimed.
        batch: how many pictures or texts are embedded or described at a time.
        seed: chooses the pictures that are described and timed.
    """

    splits: tuple[str, ...] = (TEST, TEST_STYLE)
    lang: str = "en"
    slice_by: tuple[str, ...] = ("style", "concept_split")
    slice_concepts: int = 20
    described: int = 200
    suggestions: int = 3
    timed: int = 80
    warm_up: int = 5
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("suggestions", 1), ("batch", 1), ("described", 0), ("timed", 0), ("warm_up", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"EvaluateConfig.{name} is {getattr(self, name)}", f"it takes {least} or more")
        if not self.splits:
            raise ConfigError("EvaluateConfig.splits is empty", "name at least one split, such as test")
