"""The processes that share each batch, and their collective operations.

The shuffled order gives the samples of a step; rank ``r`` of ``W`` takes samples ``r, r + W, r + 2W, …`` of them (see
``sharding``). A loss is then a mean over the rank's own samples, and the mean over ranks, of losses and of gradients,
is that of the whole batch.

Shape suffixes: B samples of this rank, A samples of all ranks (A = W·B), D any width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from clerestory.core.errors import ConfigError
from clerestory.stages.train.sharding import shard, shard_size

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that share a batch.

    Attributes:
        rank: of this process, counted from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def check_batch_size(self, batch_size: int) -> None:
        """Check that a batch can be divided evenly.

        Raises:
            ConfigError: it cannot be divided evenly.
        """
        if batch_size % self.world_size:
            divisible = max(1, batch_size // self.world_size) * self.world_size
            raise ConfigError(
                f"batch_size {batch_size} cannot be shared evenly by {self.world_size} processes",
                f"set batch_size to {divisible}, or start another number of processes",
            )

    def shard(self, samples: T) -> T:
        """This rank's samples of a whole batch in order (an array, a tensor, a list)."""
        return shard(samples, self.rank, self.world_size)

    def shard_size(self, total: int) -> int:
        """The number of this rank's samples among the first ``total`` samples of a batch."""
        return shard_size(total, self.rank, self.world_size)

    def gather(self, rows_BD: Tensor) -> Tensor:
        """The rows of all ranks, rank after rank ``(A, D)``; gradients flow back to the rank of each row."""
        return cast(Tensor, _Gather.apply(rows_BD, self)) if self.world_size > 1 else rows_BD  # type: ignore[no-untyped-call]  # torch leaves it without types

    def gathered_indices(self, rows_BD: Tensor) -> Tensor:
        """The indices of this rank's rows among the gathered ones, ``(B,)``."""
        first = self.rank * len(rows_BD)
        return torch.arange(first, first + len(rows_BD), device=rows_BD.device)

    def mean_weight(self, count: int | Tensor) -> Tensor | float:
        """The weight of this rank's mean over ``count`` items, so that the mean over ranks is that over all items."""
        if self.world_size == 1:
            return 1.0
        own_count = torch.as_tensor(count, dtype=torch.float32)
        total = own_count.clone()
        distributed.all_reduce(total)
        return own_count * self.world_size / total.clamp(min=1)

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean over ranks of each number; the keys must be the same on all ranks."""
        if self.world_size == 1:
            return dict(values)
        sums = torch.tensor(list(values.values()), dtype=torch.float64)
        distributed.all_reduce(sums)
        return dict(zip(values, (sums / self.world_size).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return self.means({"flag": float(flag)})["flag"] > 0

    def broadcast(self, value: T) -> T:
        """The value of rank 0, on every rank."""
        if self.world_size == 1:
            return value
        objects: list[Any] = [value]
        distributed.broadcast_object_list(objects, src=0)
        return cast(T, objects[0])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            distributed.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_BD: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(rows_BD, memory_format=torch.contiguous_format) for _ in range(ranks.world_size)]
        distributed.all_gather(parts, rows_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor, None]:
        grad_AD = grad_AD.contiguous()
        distributed.all_reduce(grad_AD)
        return grad_AD.chunk(ctx.ranks.world_size)[ctx.ranks.rank], None


SINGLE = Ranks()
