"""The settings of a self-test."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SelfTestConfig:
    """How large a self-test is, and when a gate speaks.

    Attributes:
        pictures: how many pictures each fault is tried on; all of the split when it has fewer.
        rebuilds: how many times the same thing is built again without any change, to count false alarms.
        rebuild_pictures: how many pictures each of these is tried on.
        reopen_every: the model is read from disk anew for every so many rebuilds.
        alpha: how often the quality gate may raise a false alarm, for each of its two measures.
        margin: the drop in mean reciprocal rank that the quality gate is asked about.
        churn: the share of changed first answers, or of changed right answers, that is tolerated.
        distance: the largest cosine distance between two embeddings of the same thing that is tolerated.
        split: where the pictures come from; the first split there is when empty.
        lang: the language of the captions.
        seed: chooses pictures and what the faults draw.
    """

    pictures: int = 600
    rebuilds: int = 100
    rebuild_pictures: int = 64
    reopen_every: int = 10
    alpha: float = 0.001
    margin: float = 0.01
    churn: float = 0.005
    distance: float = 1e-4
    split: str = "test"
    lang: str = "en"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("pictures", "rebuilds", "rebuild_pictures", "reopen_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"SelfTestConfig.{name} is {getattr(self, name)}", "it takes 1 or more")
