"""From scores to evidence: every metric of a fine-tuning follows from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.evidence import Measurement, Recipe
from clerestory.stages.train.tune.caption_pairs import CaptionPairs
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stats.aggregate import measure

RETENTION, NEW = "retention", "new"
METRIC, CHANGE_METRIC = "mrr", "mrr_change"
COLUMNS = ("set", "data", "split", "phase", "step", "alpha", "sample", "concept", "score")


class Moment(NamedTuple):
    """When scores were computed.

    Attributes:
        phase: ``before``, ``validation``, ``interpolation``, ``after``, or ``change`` (after minus before).
        step: of a validation; empty otherwise.
        alpha: share of the tuned weights, of an interpolation; empty otherwise.
    """

    phase: str
    step: str = ""
    alpha: str = ""

    def slice(self) -> dict[str, str]:
        """The fields that are not empty."""
        return {name: value for name, value in self._asdict().items() if value}


BEFORE, AFTER, CHANGE = Moment("before"), Moment("after"), Moment("change")


def at_step(step: int) -> Moment:
    """A validation during training."""
    return Moment("validation", step=str(step))


def at_alpha(alpha: float) -> Moment:
    """An interpolation between the original and the tuned weights."""
    return Moment("interpolation", alpha=f"{alpha:g}")


@dataclass(slots=True)
class ScoreTable:
    """Scores of every image at every moment.

    Attributes:
        sets: the evaluation sets by name: ``retention`` and, if the data has validation images, ``new``.
        scores: by (set, moment).
    """

    sets: Mapping[str, CaptionPairs]
    scores: dict[tuple[str, Moment], Floats] = field(default_factory=dict)

    def mean(self, name: str, moment: Moment) -> float:
        """The mean score of a set at a moment."""
        return float(self.scores[name, moment].mean())

    def columns(self) -> dict[str, NDArray[Any]]:
        """One row for each image and moment."""
        table: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for (name, moment), scores in self.scores.items():
            pairs = self.sets[name]
            for sample, score in zip(pairs.samples, scores.tolist(), strict=True):
                concept = sample.concept or sample.caption
                row = (name, pairs.data.name, pairs.split, *moment, sample.id, concept, score)
                for column, cell in zip(table.values(), row, strict=True):
                    column.append(cell)
        return {n: np.array(cells, np.float64 if n == "score" else object) for n, cells in table.items()}

    def measurements(self, rows: Mapping[str, NDArray[Any]]) -> tuple[Measurement, ...]:
        """The mean score of every set and moment with its interval over concepts."""
        measured = []
        for name, moment in self.scores:
            pairs = self.sets[name]
            where = {"set": name, **moment.slice()}
            metric = CHANGE_METRIC if moment == CHANGE else METRIC
            slice_ = {**where, "data": pairs.data.name, "split": pairs.split}
            measured.append(measure(rows, Recipe("mean", "score", Tags(where), "concept"), metric, slice_))
        return tuple(measured)
