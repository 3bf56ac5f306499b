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
        timed: how many single requests are timed per operation, 0 for none. Bounding the 99th percentile takes 368.
        warm_up: how many requests go before them untimed.
        batch: how many pictures or texts are embedded or described at a time.
        seed: chooses the pictures that are described, timed, corrupted and asked about.
        parts: the parts to run, such as ``retrieval``; all of them when empty.
        corrupted: how many pictures of the first split are put under every corruption, 0 for none.
        asked: how many pictures of the first split are asked about (multiple choice, yes or no), 0 for none.
        bins: how many bins calibration is told in.
        group_least: a group with fewer concepts than this is named and not measured.
        rate: arrivals per second of the load test, 0 for a rate that suits the model's own speed.
        load_seconds: how long the load test takes, 0 for none.
        prices: a price file; the examples that come with Clerestory when empty.
        tasks: task files (TOML) to run besides the parts.
        label: the group (or ``concept``) whose values are the classes of classification; the best there is when empty.
    """

    splits: tuple[str, ...] = (TEST, TEST_STYLE)
    lang: str = "en"
    slice_by: tuple[str, ...] = ("style", "concept_split")
    slice_concepts: int = 20
    described: int = 200
    suggestions: int = 3
    timed: int = 400
    warm_up: int = 5
    batch: int = 64
    seed: int = 0
    parts: tuple[str, ...] = ()
    corrupted: int = 160
    asked: int = 300
    bins: int = 15
    group_least: int = 10
    rate: float = 0.0
    load_seconds: float = 10.0
    prices: str = ""
    tasks: tuple[str, ...] = ()
    label: str = ""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"EvaluateConfig.{name} is {getattr(self, name)}", f"it takes {least} or more")
        if not self.splits:
            raise ConfigError("EvaluateConfig.splits is empty", "name at least one split, such as test")


_LEAST = {
    "suggestions": 1,
    "batch": 1,
    "bins": 1,
    "group_least": 2,
    **dict.fromkeys(("described", "timed", "warm_up", "corrupted", "asked", "rate", "load_seconds"), 0),
}
