"""Loss-free load balancing of experts: after each step their routing bias is updated and the counts are reset.

The load-balancing *loss* belongs to the objective of the forward pass, see ``captions``.
"""

from __future__ import annotations

from clerestory.models.moe.balancing import rebalance, reset_counts
from clerestory.stages.train.objectives.objective import LossTerm, Objective, StepContext


class ExpertBalance(Objective):
    """Updates the routing biases (``expert_balance`` of ``bias`` or ``both``); it has no loss term.

    It must come before all objectives that pass tokens through the model: it resets the counts that a skipped step
    left behind, so that a resumed run counts what an uninterrupted one counts.
    """

    name = "experts"

    def __init__(self) -> None:
        super().__init__()
        self._number = -1

    def losses(self, step: StepContext) -> dict[str, LossTerm]:
        """No term; each step counts from zero, and its micro-batches add up."""
        if step.number != self._number:
            reset_counts(step.model)
            self._number = step.number
        return {}

    def after_step(self, step: StepContext) -> None:
        """One update of every bias against the load of this step."""
        rebalance(step.model, step.settings.config.bias_update_speed)
