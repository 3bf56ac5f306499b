"""Loss-free balancing: a bias on the scores of each expert, moved a little after every step (Wang et al. 2024).

Shape suffixes: E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from clerestory.models.moe.layer import mixtures

RATE = 1e-3
DEAD = 0.01  # of the mean load; below it an expert learns nothing worth its memory


@dataclass(frozen=True)
class Load:
    """How the choices of one mixture fell since the last call, over all ranks.

    Attributes:
        counts: choices of each expert.
    """

    counts: tuple[int, ...]

    @property
    def max_over_mean(self) -> float:
        """1 for an even load, E when one expert has all; 1 without tokens."""
        total = sum(self.counts)
        return max(self.counts) * len(self.counts) / total if total else 1.0

    @property
    def dead(self) -> tuple[int, ...]:
        """Experts with less than a hundredth of the mean load; none without tokens."""
        least = DEAD * sum(self.counts) / len(self.counts)
        return tuple(e for e, n in enumerate(self.counts) if n < least)


@torch.no_grad()
def rebalance(model: nn.Module, rate: float = RATE, group: distributed.ProcessGroup | None = None) -> dict[str, Load]:
    """Move each mixture's steering bias against its load, and start counting anew; call it once per optimizer step.

    ``bias += rate * sign(mean - count)``, then recentred so that it cannot drift. The sign alone is used because the
    size of an imbalance says nothing about how far scores must move. Over several ranks the counts are summed first,
    so all ranks keep the same bias. With gradient accumulation the counts of all micro-batches are used.

    Args:
        model: any module with mixtures in it; those without a steering bias are only counted.
        rate: u, how far a bias moves in one step.
        group: of ``torch.distributed``; the default one where it is initialized.

    Returns:
        The load of every mixture by its name.
    """
    counts = take_counts(model, group)
    for name, mixture in mixtures(model).items():
        if mixture.bias_E is not None:
            mixture.bias_E = mixture.bias_E.float()  # a file loaded in half precision brings a half one
            counts_E = counts[name].to(mixture.bias_E.dtype)
            mixture.bias_E += rate * torch.sign(counts_E.mean() - counts_E)
            mixture.bias_E -= mixture.bias_E.mean()
    return {name: Load(tuple(counts_E.tolist())) for name, counts_E in counts.items()}


@torch.no_grad()
def take_counts(model: nn.Module, group: distributed.ProcessGroup | None = None) -> dict[str, Tensor]:
    """The choices of each expert since the last call, summed over ranks in one all-reduce; they start anew at zero."""
    found = mixtures(model)
    if not found:
        return {}
    flat = torch.cat([mixture.counts_E for mixture in found.values()])
    forget_counts(model)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(flat, group=group)
    sizes = [mixture.num_experts for mixture in found.values()]
    parts = torch.split(flat, sizes)
    return dict(zip(found, parts, strict=True))


def forget_counts(model: nn.Module) -> None:
    """Start counting anew on this rank alone, as after a step that was skipped."""
    for mixture in mixtures(model).values():
        mixture.counts_E.zero_()


@contextmanager
def uncounted(model: nn.Module) -> Iterator[None]:
    """Forward passes in here do not count: for whoever only looks at a model that is training."""
    kept = {name: mixture.counts_E.clone() for name, mixture in mixtures(model).items()}
    try:
        yield
    finally:
        for name, mixture in mixtures(model).items():
            mixture.counts_E.copy_(kept[name])
