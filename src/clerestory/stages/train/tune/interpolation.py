"""What is kept and what is gained on the way from the original weights to the tuned ones (WiSE-FT)."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.progress import Progress
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.evidence import BEFORE, NEW, RETENTION, Sheet, at_alpha
from clerestory.stages.train.tune.forgetting import Guard
from clerestory.stages.train.tune.trainable import Student
from clerestory.stages.train.tune.weights import Weights, put_between


@dataclass(frozen=True, slots=True)
class Curve:
    """The points that were tried.

    Attributes:
        alphas: shares of the tuned weights, ascending, 0 and 1 among them.
        fits: those that hold the share of retention that is to be kept.
        alpha: the one that was taken.
    """

    alphas: tuple[float, ...]
    fits: tuple[float, ...]
    alpha: float


def draw(
    student: Student,
    sheet: Sheet,
    before: Weights,
    after: Weights,
    guard: Guard,
    config: TuneConfig,
    progress: Progress,
) -> Curve:
    """Score every point and choose one.

    Without ``blend`` it is 1. With it: of the points that keep enough, the one that is best at the new pictures; where
    none are watched, the furthest.
    """
    with progress.task("Between the original and the tuned weights", len(config.alphas)) as task:
        for alpha in config.alphas:
            put_between(student.network, before, after, alpha)
            for name, pairs in sheet.sets.items():
                known = sheet.scores[name, BEFORE]
                sheet.scores[name, at_alpha(alpha)] = student.scores(pairs) if alpha else known
            task.advance(1)
    fits = tuple(a for a in config.alphas if a == 0.0 or guard.enough(sheet.scores[RETENTION, at_alpha(a)]))
    alpha = 1.0
    if config.guard == "blend":
        alpha = max(fits, key=lambda a: (sheet.mean(NEW, at_alpha(a)), a)) if NEW in sheet.sets else max(fits)
    return Curve(config.alphas, fits, alpha)
