"""From scores to evidence: every number of a fine-tuning follows from rows that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.evidence import Measurement, Recipe
from clerestory.stages.train.tune.caption_pairs import Pairs
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stats.aggregate import measure

RETENTION, NEW = "retention", "new"
BEFORE, AFTER, CHANGE = "before", "after", "change"
SCORE = "mrr"


def at_step(step: int) -> str:
    """The name of a look during training."""
    return f"step {step}"


def at_alpha(alpha: float) -> str:
    """The name of a point between the original and the tuned weights."""
    return f"alpha {alpha:g}"


@dataclass(slots=True)
class Sheet:
    """Scores of every picture at every moment.

    Attributes:
        sets: the sets of pictures by name: ``retention`` and, where there are any to watch, ``new``.
        scores: by (set, moment).
    """

    sets: Mapping[str, Pairs]
    scores: dict[tuple[str, str], Floats] = field(default_factory=dict)

    def mean(self, name: str, when: str) -> float:
        """The mean score of a set at a moment."""
        return float(self.scores[name, when].mean())

    def columns(self) -> dict[str, NDArray[Any]]:
        """One row for each picture and moment; ``change`` is after minus before."""
        table: dict[str, list[Any]] = {n: [] for n in ("set", "data", "split", "when", "sample", "concept", "score")}
        for (name, when), scores in self.scores.items():
            pairs = self.sets[name]
            for sample, score in zip(pairs.samples, scores.tolist(), strict=True):
                row = (name, pairs.data.name, pairs.split, when, sample.id, sample.concept or sample.caption, score)
                for column, cell in zip(table.values(), row, strict=True):
                    column.append(cell)
        return {n: np.array(c, np.float64 if n == "score" else object) for n, c in table.items()}

    def measurements(self, rows: Mapping[str, NDArray[Any]]) -> tuple[Measurement, ...]:
        """The mean score of every set and moment with its interval over concepts."""
        found = []
        for name, when in self.scores:
            pairs = self.sets[name]
            where = Tags(set=name, when=when)
            told = {"set": name, "when": when, "data": pairs.data.name, "split": pairs.split}
            label = f"{SCORE}_change" if when == CHANGE else SCORE
            found.append(measure(rows, Recipe("mean", "score", where, "concept"), label, told))
        return tuple(found)
