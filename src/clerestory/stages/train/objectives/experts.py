"""Keeping experts at work: after each step the bias that steers their load moves, and counting starts anew.

The balance *loss* of experts is a part of the objective whose forward pass they served, see ``captions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clerestory.models.moe.balancing import forget_counts, rebalance
from clerestory.stages.train.objectives.objective import Objective, Part, StepContext

if TYPE_CHECKING:
    from clerestory.stages.train.loop import Run


class Experts(Objective):
    """Moves steering biases (``expert_balance`` of ``bias`` or ``both``); has no loss of its own.

    It must come before whatever passes tokens through the model: what an earlier step has counted and not used, because
    it was skipped, is forgotten here, so that a resumed run counts what an uninterrupted one counts.
    """

    name = "experts"

    def __init__(self) -> None:
        super().__init__()
        self._number = -1

    def losses(self, step: StepContext) -> dict[str, Part]:
        """No part; a new step starts to count at zero, the micro-batches of one step add up."""
        if step.number != self._number:
            forget_counts(step.model)
            self._number = step.number
        return {}

    def after_step(self, run: Run) -> None:
        """One move of every bias against the load of this step."""
        rebalance(run.model, run.settings.config.expert_rate)
