"""The settings of a self-test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clerestory.core.settings import Range, check_settings


@dataclass(frozen=True, slots=True)
class SelfTestConfig:
    """The size of a self-test, and when a gate raises an alarm.

    Attributes:
        num_images: how many images each fault is tested on; all of the split if it has fewer.
        num_rebuilds: how many times the unchanged pipeline is built again, to count false alarms.
        rebuild_images: how many images each rebuild is tested on.
        reload_every: the model is read from disk again every so often, in rebuilds.
        alpha: the false alarm rate of each of the two tests of the quality gate.
        margin: the drop in mean reciprocal rank that the quality gate has to rule out.
        max_churn: the tolerated share of changed predictions, and of changed labels.
        max_distance: the tolerated cosine distance between two embeddings of the same input.
        split: the split of the images; the first one of the data if empty.
        language: of the captions.
        seed: selects images and seeds the faults.
    """

    num_images: Annotated[int, Range(1)] = 600
    num_rebuilds: Annotated[int, Range(1)] = 100
    rebuild_images: Annotated[int, Range(1)] = 64
    reload_every: Annotated[int, Range(1)] = 10
    alpha: Annotated[float, Range(0, 0.5, exclusive_minimum=True, exclusive_maximum=True)] = 0.001
    margin: Annotated[float, Range(0, exclusive_minimum=True)] = 0.01
    max_churn: Annotated[float, Range(0, 1)] = 0.005
    max_distance: Annotated[float, Range(0, 2)] = 1e-4
    split: str = "test"
    language: str = "en"
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self)
