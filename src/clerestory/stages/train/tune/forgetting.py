"""Detects forgetting during fine-tuning as early as the data allows.

The same images are evaluated before training and at every validation, so the scores are compared image by image, and
the interval of their mean difference follows from the spread of these differences over concepts
(``stats.paired_difference``). A run has several validations; with intervals at the usual level there would be more
false alarms than 5 %, so these are divided evenly among all validations (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from clerestory.core.evidence import Finding
from clerestory.stages.train.tune import findings
from clerestory.stages.train.tune.caption_pairs import Ints
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stats.paired import Difference, paired_difference

RetentionState = Literal["retained", "declining", "below_minimum"]
FALSE_ALARM_RATE = 0.05  # per run without forgetting
MIN_SKILL = 1.5  # multiple of the chance score below which forgetting cannot be measured


@dataclass(frozen=True, slots=True)
class RetentionCheck:
    """One validation on the retention set.

    Attributes:
        step: completed steps.
        score: mean over images.
        change: since before training.
        state: ``retained``; ``declining``: significantly lower; ``below_minimum``: significantly below the minimum.
    """

    step: int
    score: float
    change: Difference
    state: RetentionState

    def describe(self) -> str:
        """The change with its interval, for people."""
        interval = self.change.interval
        span = f" ({interval.low:+.3f} to {interval.high:+.3f})" if interval else ""
        return f"{self.change.value:+.3f}{span}"


class ForgettingMonitor:
    """Compares scores on a retention set with those before training.

    Args:
        before: scores of the images before training.
        groups: the concept number of each image.
        chance: the expected score of random ranks.
        min_retention: required share of the mean score.
        validations: the number of checks in the run.

    Attributes:
        score: the mean score before training.
        checks: the checks so far.
    """

    def __init__(self, before: Floats, groups: Ints, chance: float, min_retention: float, validations: int) -> None:
        self.before, self.groups, self.chance, self.min_retention = before, groups, chance, min_retention
        self.score = float(before.mean())
        # One-sided, so both tails of the two-sided interval may have that probability.
        self._alpha = FALSE_ALARM_RATE / validations
        self.checks: list[RetentionCheck] = []

    @property
    def above_chance(self) -> bool:
        """Whether the score before training is high enough to measure forgetting."""
        return self.score > MIN_SKILL * self.chance

    def check(self, step: int, scores: Floats) -> RetentionCheck:
        """Compare the scores after some steps."""
        change = paired_difference(scores, self.before, self.groups, 1 - 2 * self._alpha)
        state: RetentionState = "retained"
        if self.above_chance and self._below_zero(change):
            excess = paired_difference(scores, self.min_retention * self.before, self.groups, 1 - 2 * self._alpha)
            state = "below_minimum" if self._below_zero(excess) else "declining"
        check = RetentionCheck(step, float(scores.mean()), change, state)
        self.checks.append(check)
        return check

    def meets_minimum(self, scores: Floats) -> bool:
        """Whether the mean of some scores meets the minimum retention."""
        return not self.above_chance or float(scores.mean()) >= self.min_retention * self.score

    def _below_zero(self, difference: Difference) -> bool:
        """Whether a difference is significantly below 0."""
        if difference.interval is not None:
            return difference.interval.high < 0
        # Every concept fell by the same amount: no variance, but a sign test applies.
        return bool(difference.value < 0 and 0.5**difference.clusters < self._alpha)

    def findings(self, where: str) -> tuple[Finding, ...]:
        """The findings of all checks; none if everything was retained."""
        if not self.above_chance:
            finding = findings.RETENTION_AT_CHANCE.finding(
                where,
                f"the score on the retention set before training is {self.score:.3f}, not clearly above chance "
                f"({self.chance:.3f}), so forgetting cannot be measured",
                score=self.score,
                chance=self.chance,
            )
            return (finding,)
        reported = []
        first = next((check for check in self.checks if check.state != "retained"), None)
        if first is not None:
            reported.append(self.declining_finding(first, where))
        below = next((check for check in self.checks if check.state == "below_minimum"), None)
        if below is not None:
            reported.append(self.below_minimum_finding(below, where))
        return tuple(reported)

    def declining_finding(self, check: RetentionCheck, where: str) -> Finding:
        """The score is significantly lower than before training."""
        return findings.FORGETTING_STARTED.finding(
            where,
            f"step {check.step}: the retention score fell from {self.score:.3f} before training to {check.score:.3f}, "
            f"change {check.describe()} over {check.change.n} images",
            count=check.change.n,
            step=check.step,
            score=check.score,
            score_before=self.score,
        )

    def below_minimum_finding(self, check: RetentionCheck, where: str) -> Finding:
        """The score is significantly below the minimum retention."""
        return findings.RETENTION_TOO_LOW.finding(
            where,
            f"step {check.step}: retention is {check.score / self.score:.0%} ({self.score:.3f} before training, "
            f"{check.score:.3f} now), below the required minimum of {self.min_retention:.0%}",
            count=check.change.n,
            step=check.step,
            score=check.score,
            score_before=self.score,
            min_retention=self.min_retention,
        )


def chance_score(candidates: int, own: int = 1) -> float:
    """The mean of 1 / rank in a random order of ``candidates`` captions.

    Args:
        candidates: captions to rank.
        own: how many of them are the image's own; the rank is 1 + the number of others before the first of these.
    """
    ranks = np.arange(1, candidates - own + 2)
    if own == 1:
        return float((1.0 / ranks).mean())
    # P(rank = r) is proportional to the ways of placing the other own captions behind place r.
    logs = special.gammaln(candidates - ranks + 1) - special.gammaln(candidates - ranks - own + 2)
    weights = np.exp(logs - logs.max())
    return float((weights / ranks).sum() / weights.sum())
