"""Load balancing without an auxiliary loss: a bias on each expert's score, updated after every step (Wang et al. 2024).

Shape suffixes: E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from clerestory.models.moe.layer import mixtures

BIAS_UPDATE_SPEED = 1e-3
# An expert is dead below this fraction of the mean load. The monitor and the expert report use this threshold too.
DEAD_LOAD_FRACTION = 0.01


@dataclass(frozen=True)
class ExpertLoad:
    """The load of one mixture's experts since the last call, over all ranks.

    Attributes:
        counts: tokens routed to each expert.
    """

    counts: tuple[int, ...]

    @property
    def max_over_mean(self) -> float:
        """1 for an even load, E when one expert gets all tokens; 1 without tokens."""
        total = sum(self.counts)
        return max(self.counts) * len(self.counts) / total if total else 1.0

    @property
    def dead(self) -> tuple[int, ...]:
        """Experts below ``DEAD_LOAD_FRACTION`` of the mean load; none without tokens."""
        threshold = DEAD_LOAD_FRACTION * sum(self.counts) / len(self.counts)
        return tuple(e for e, n in enumerate(self.counts) if n < threshold)


@torch.no_grad()
def rebalance(
    model: nn.Module, update_speed: float = BIAS_UPDATE_SPEED, group: distributed.ProcessGroup | None = None
) -> dict[str, ExpertLoad]:
    """Move each mixture's expert bias against its load and reset the counts; call it once per optimizer step.

    ``bias += update_speed * sign(mean - count)``, then recentred so that it cannot drift. Only the sign is used because
    the size of an imbalance does not say how far the scores must move. Counts are summed over ranks first, so all ranks
    keep the same bias. With gradient accumulation the counts of all micro-batches are used.

    Args:
        model: any module that contains mixtures; those without an expert bias are only counted.
        update_speed: step size of the bias.
        group: of ``torch.distributed``; the default group if it is initialized.

    Returns:
        The load of every mixture, by its name in the model.
    """
    counts = pop_counts(model, group)
    for name, mixture in mixtures(model).items():
        if mixture.expert_bias_E is not None:
            mixture.expert_bias_E = mixture.expert_bias_E.float()  # weights loaded in half precision include the bias
            counts_E = counts[name].to(mixture.expert_bias_E.dtype)
            mixture.expert_bias_E += update_speed * torch.sign(counts_E.mean() - counts_E)
            mixture.expert_bias_E -= mixture.expert_bias_E.mean()
    return {name: ExpertLoad(tuple(counts_E.tolist())) for name, counts_E in counts.items()}


@torch.no_grad()
def pop_counts(model: nn.Module, group: distributed.ProcessGroup | None = None) -> dict[str, Tensor]:
    """Tokens per expert since the last call, summed over ranks in one all-reduce; the counts are reset to zero."""
    by_name = mixtures(model)
    if not by_name:
        return {}
    flat = torch.cat([mixture.counts_E for mixture in by_name.values()])
    reset_counts(model)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(flat, group=group)
    sizes = [mixture.num_experts for mixture in by_name.values()]
    return dict(zip(by_name, torch.split(flat, sizes), strict=True))


def reset_counts(model: nn.Module) -> None:
    """Reset the counts on this rank only, such as after a skipped step."""
    for mixture in mixtures(model).values():
        mixture.counts_E.zero_()


@contextmanager
def counts_preserved(model: nn.Module) -> Iterator[None]:
    """Forward passes in this context leave the counts unchanged, such as those of instrumentation during training."""
    saved = {name: mixture.counts_E.clone() for name, mixture in mixtures(model).items()}
    try:
        yield
    finally:
        for name, mixture in mixtures(model).items():
            mixture.counts_E.copy_(saved[name])
