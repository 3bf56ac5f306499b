"""The processes that share each batch, and what they exchange.

The order of the data names the samples of a step; rank ``r`` of ``W`` takes samples ``r, r + W, r + 2W, …`` of them, so
that whatever is done for the first samples of a batch (captions) is spread evenly. A loss is then a mean over the
rank's own samples, and the mean over ranks, of losses and of gradients, is that of the whole batch.

Shape suffixes: B samples of this rank, A samples of all ranks (A = W·B), D any width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from clerestory.core.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that share a batch.

    Attributes:
        rank: this one, counted from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    def check(self, batch: int) -> None:
        """Whether a batch can be shared evenly.

        Raises:
            ConfigError: it cannot.
        """
        if batch % self.world:
            raise ConfigError(
                f"a batch of {batch} cannot be shared evenly by {self.world} processes",
                f"set batch to {max(1, batch // self.world) * self.world}, or start another number of processes",
            )

    def mine(self, samples: T) -> T:
        """This rank's part of what the whole batch has in order (an array, a list)."""
        return cast(T, samples[self.rank :: self.world]) if self.world > 1 else samples  # type: ignore[index]  # a sequence

    def share(self, count: int) -> int:
        """How many of the batch's first ``count`` samples are this rank's."""
        return len(range(self.rank, count, self.world))

    def gather(self, rows_BD: Tensor) -> Tensor:
        """The rows of all ranks, rank after rank ``(A, D)``; gradients find their way back to whose rows they were."""
        return cast(Tensor, _Gather.apply(rows_BD, self)) if self.world > 1 else rows_BD  # type: ignore[no-untyped-call]  # torch leaves it without types

    def own(self, rows_BD: Tensor) -> Tensor:
        """Where this rank's rows are among the gathered ones, ``(B,)``."""
        first = self.rank * len(rows_BD)
        return torch.arange(first, first + len(rows_BD), device=rows_BD.device)

    def mean_weight(self, count: int | Tensor) -> Tensor | float:
        """The factor of a mean over ``count`` things of this rank that makes the mean over ranks count all alike."""
        if self.world == 1:
            return 1.0
        mine = torch.as_tensor(count, dtype=torch.float32)
        whole = mine.clone()
        distributed.all_reduce(whole)
        return mine * self.world / whole.clamp(min=1)

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean over ranks of each number; the same dictionary keys on all of them."""
        if self.world == 1:
            return dict(values)
        both = torch.tensor(list(values.values()), dtype=torch.float64)
        distributed.all_reduce(both)
        return dict(zip(values, (both / self.world).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return self.means({"flag": float(flag)})["flag"] > 0

    def from_first(self, value: T) -> T:
        """What rank 0 has, on every rank."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        distributed.broadcast_object_list(box, src=0)
        return cast(T, box[0])

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_BD: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(rows_BD, memory_format=torch.contiguous_format) for _ in range(ranks.world)]
        distributed.all_gather(parts, rows_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor, None]:
        grad_AD = grad_AD.contiguous()
        distributed.all_reduce(grad_AD)
        return grad_AD.chunk(ctx.ranks.world)[ctx.ranks.rank], None


SINGLE = Ranks()
