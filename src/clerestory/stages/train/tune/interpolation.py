"""Retention and gain of interpolations between the original and the tuned weights (WiSE-FT)."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.progress import Progress
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.evidence import BEFORE, NEW, RETENTION, ScoreTable, at_alpha
from clerestory.stages.train.tune.forgetting import ForgettingMonitor
from clerestory.stages.train.tune.trainable import TrainableModel
from clerestory.stages.train.tune.weights import Weights, interpolate_weights


@dataclass(frozen=True, slots=True)
class InterpolationCurve:
    """The evaluated interpolations.

    Attributes:
        alphas: shares of the tuned weights, ascending, 0 and 1 included.
        sufficient: those that meet the minimum retention.
        alpha: the chosen one.
    """

    alphas: tuple[float, ...]
    sufficient: tuple[float, ...]
    alpha: float


def evaluate_interpolations(
    model: TrainableModel,
    table: ScoreTable,
    before: Weights,
    after: Weights,
    monitor: ForgettingMonitor,
    config: TuneConfig,
    progress: Progress,
) -> InterpolationCurve:
    """Evaluate every alpha on all sets and choose one.

    With ``on_forgetting = interpolate`` the chosen alpha is, of those that meet the minimum retention, the best on the
    new images; without validation images the largest. Otherwise it is 1.
    """
    with progress.task("Interpolating between the original and the tuned weights", len(config.alphas)) as task:
        for alpha in config.alphas:
            interpolate_weights(model.network, before, after, alpha)
            for name, pairs in table.sets.items():
                table.scores[name, at_alpha(alpha)] = model.scores(pairs) if alpha else table.scores[name, BEFORE]
            task.advance(1)
    sufficient = tuple(
        a for a in config.alphas if a == 0.0 or monitor.meets_minimum(table.scores[RETENTION, at_alpha(a)])
    )
    alpha = 1.0
    if config.on_forgetting == "interpolate":
        best = max(sufficient, key=lambda a: (table.mean(NEW, at_alpha(a)), a)) if NEW in table.sets else None
        alpha = max(sufficient) if best is None else best
    return InterpolationCurve(config.alphas, sufficient, alpha)
