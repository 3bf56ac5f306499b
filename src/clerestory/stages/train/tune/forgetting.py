"""Tells when a fine-tuning has begun to destroy what the model knew, as early as that can be known.

The same pictures are asked before training and at every look, so the two answers are compared picture by picture, and
the interval of their mean difference follows from the spread of these differences over concepts
(``stats.paired_difference``). A run is looked at several times; an interval of the usual level would then raise a
false alarm far more often than it says, so the 5 % are shared out evenly over all looks (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clerestory.core.evidence import Finding
from clerestory.stages.train.tune.caption_pairs import Ints
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stats.paired import Difference, paired_difference

State = Literal["kept", "losing", "lost"]
FALSE_ALARMS = 0.05  # of a whole run that loses nothing
KNOWN = 1.5  # times chance, below which a model has nothing to lose


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of the retention set once.

    Attributes:
        step: steps done.
        score: mean over pictures.
        change: against before.
        state: ``kept``; ``losing``: some is clearly lost; ``lost``: clearly more than may be.
    """

    step: int
    score: float
    change: Difference
    state: State

    def told(self) -> str:
        """The change, for people."""
        interval = self.change.interval
        span = f" ({interval.low:+.3f} to {interval.high:+.3f})" if interval else ""
        return f"{self.change.value:+.3f}{span}"


class Guard:
    """Compares scores of a retention set with those before.

    Args:
        before: scores of the pictures before training.
        groups: their concepts.
        chance: the score of a model that guesses.
        keep: share of the mean score that is to be kept.
        looks: how often it will be asked.
    """

    def __init__(self, before: Floats, groups: Ints, chance: float, keep: float, looks: int) -> None:
        self.before, self.groups, self.chance, self.keep = before, groups, chance, keep
        self.score = float(before.mean())
        # One-sided, so both tails of the two-sided interval may hold that share.
        self._alpha = FALSE_ALARMS / looks
        self.seen: list[Look] = []

    @property
    def knows(self) -> bool:
        """Whether there is anything to lose."""
        return self.score > KNOWN * self.chance

    def look(self, step: int, scores: Floats) -> Look:
        """Judge the scores after some steps."""
        change = paired_difference(scores, self.before, self.groups, 1 - 2 * self._alpha)
        state: State = "kept"
        if self.knows and self._below(change):
            beyond = paired_difference(scores, self.keep * self.before, self.groups, 1 - 2 * self._alpha)
            state = "lost" if self._below(beyond) else "losing"
        look = Look(step, float(scores.mean()), change, state)
        self.seen.append(look)
        return look

    def enough(self, scores: Floats) -> bool:
        """Whether scores hold the share that is to be kept, as they stand."""
        return not self.knows or float(scores.mean()) >= self.keep * self.score

    def _below(self, difference: Difference) -> bool:
        """Whether a difference is clearly below 0."""
        if difference.interval is not None:
            return difference.interval.high < 0
        # Every concept fell by the same amount: no spread, but a coin would not fall the same way so often.
        return bool(difference.value < 0 and 0.5**difference.clusters < self._alpha)

    def findings(self, where: str) -> tuple[Finding, ...]:
        """What the looks amount to; nothing where all is kept."""
        if not self.knows:
            message = (
                f"of the retention set the model knew hardly more than chance before (score {self.score:.3f}, chance "
                f"{self.chance:.3f}), so nobody can tell whether anything is lost"
            )
            fix = "choose a retention set of what it is good at, with --retain"
            return (Finding("CLR-T042", "warning", "not_run", where, message, fix),)
        found = []
        first = next((look for look in self.seen if look.state != "kept"), None)
        if first is not None:
            found.append(losing(first, self, where))
        beyond = next((look for look in self.seen if look.state == "lost"), None)
        if beyond is not None:
            found.append(lost(beyond, self, where))
        return tuple(found)


def losing(look: Look, guard: Guard, where: str) -> Finding:
    """Something is clearly being lost."""
    message = (
        f"at step {look.step} it has begun to lose what it knew: score {guard.score:.3f} before, {look.score:.3f} now, "
        f"change {look.told()} over {look.change.n} pictures"
    )
    fix = "lower learning_rate, use --method lora or --guard blend, or stop here if that much may be lost"
    return Finding("CLR-T040", "warning", "warn", where, message, fix)


def lost(look: Look, guard: Guard, where: str) -> Finding:
    """More is lost than may be."""
    message = (
        f"at step {look.step} it has lost more of what it knew than may be lost: {look.score / guard.score:.0%} of its "
        f"score is left ({guard.score:.3f} before, {look.score:.3f} now), {guard.keep:.0%} are to be kept"
    )
    fix = "use --guard stop or --guard blend, and a learning_rate a tenth of this"
    return Finding("CLR-T041", "error", "fail", where, message, fix)


def chance(candidates: int) -> float:
    """The mean of 1 / rank when the rank is drawn evenly from ``1 … candidates``."""
    return float((1.0 / np.arange(1, candidates + 1)).mean())
