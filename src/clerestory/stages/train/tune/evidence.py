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


class EvaluationPoint(NamedTuple):
    """The point of a fine-tuning at which scores were computed.

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


BEFORE, AFTER, CHANGE = EvaluationPoint("before"), EvaluationPoint("after"), EvaluationPoint("change")


def at_step(step: int) -> EvaluationPoint:
    """A validation during training."""
    return EvaluationPoint("validation", step=str(step))


def at_alpha(alpha: float) -> EvaluationPoint:
    """An interpolation between the original and the tuned weights."""
    return EvaluationPoint("interpolation", alpha=f"{alpha:g}")


@dataclass(slots=True)
class ScoreTable:
    """Scores of every image at every evaluation point.

    Attributes:
        sets: the evaluation sets by name: ``retention`` and, if the data has validation images, ``new``.
        scores: by (set, point).
    """

    sets: Mapping[str, CaptionPairs]
    scores: dict[tuple[str, EvaluationPoint], Floats] = field(default_factory=dict)

    def mean(self, name: str, point: EvaluationPoint) -> float:
        """The mean score of a set at a point."""
        return float(self.scores[name, point].mean())

    def columns(self) -> dict[str, NDArray[Any]]:
        """One row for each image and point."""
        table: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for (name, point), scores in self.scores.items():
            pairs = self.sets[name]
            for sample, score in zip(pairs.samples, scores.tolist(), strict=True):
                concept = sample.concept or sample.caption
                row = (name, pairs.data.name, pairs.split, *point, sample.id, concept, score)
                for column, cell in zip(table.values(), row, strict=True):
                    column.append(cell)
        return {n: np.array(cells, np.float64 if n == "score" else object) for n, cells in table.items()}

    def measurements(self, rows: Mapping[str, NDArray[Any]]) -> tuple[Measurement, ...]:
        """The mean score of every set and point with its interval over concepts."""
        measured = []
        for name, point in self.scores:
            pairs = self.sets[name]
            where = {"set": name, **point.slice()}
            metric = CHANGE_METRIC if point == CHANGE else METRIC
            slice_ = {**where, "data": pairs.data.name, "split": pairs.split}
            measured.append(measure(rows, Recipe("mean", "score", Tags(where), "concept"), metric, slice_))
        return tuple(measured)
