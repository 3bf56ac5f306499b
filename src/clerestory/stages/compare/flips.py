"""The samples that flipped: one of the two models answers correctly and the other does not."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.core.comparison import Flip
from clerestory.stages.compare.config import CompareConfig
from clerestory.stages.compare.paired_scores import PairedScores, slices
from clerestory.stats.aggregate import Rows
from clerestory.stats.paired import Ints, is_binary


def find_flips(pairs: PairedScores, config: CompareConfig) -> list[Flip]:
    """The flipped samples, the largest flips first within each task, family and direction."""
    rows, flips = pairs.rows, list[Flip]()
    for slice_ in slices(pairs):
        a, b = rows["a"][slice_.indices], rows["b"][slice_.indices]
        if slice_.group or not (is_binary(a) and is_binary(b)):
            continue
        directions: tuple[tuple[Literal["a", "b"], Ints], ...] = (
            ("b", slice_.indices[(a == 0) & (b == 1)]),
            ("a", slice_.indices[(a == 1) & (b == 0)]),
        )
        for correct, flipped in directions:
            magnitude = _magnitude(rows, flipped)
            order = np.lexsort((rows["sample"][flipped].astype(str), -magnitude))[: config.max_flips]
            flips += [_flip(rows, int(flipped[i]), correct, float(magnitude[i])) for i in order]
    return flips


def _magnitude(rows: Rows, indices: Ints) -> NDArray[np.float64]:
    """The absolute log ratio of the two ranks, else the sum of both confidences; 1 if neither is known."""
    rank_a, rank_b = rows["rank_a"][indices], rows["rank_b"][indices]
    confidence = rows["confidence_a"][indices] + rows["confidence_b"][indices]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.abs(np.log(rank_a / rank_b))
    return np.where(np.isfinite(ratio), ratio, np.where(np.isfinite(confidence), confidence, 1.0))


def _flip(rows: Rows, i: int, correct: Literal["a", "b"], magnitude: float) -> Flip:
    cells: dict[str, Any] = {
        name: str(rows[name][i]) for name in ("task", "split", "condition", "severity", "family", "sample")
    }
    for model in ("a", "b"):
        rank = float(rows[f"rank_{model}"][i])
        cells[f"answer_{model}"] = str(rows[f"answer_{model}"][i])
        cells[f"rank_{model}"] = rank if math.isfinite(rank) else None
    caption = str(rows["target"][i] or rows["query"][i])
    return Flip(**cells, caption=caption, correct=correct, magnitude=round(magnitude, 4))
