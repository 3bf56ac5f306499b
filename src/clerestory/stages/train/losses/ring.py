"""Ring exchange of blocks between processes, with their results.

Every process keeps its images; the texts are passed around the ring. At each hop a process computes its result for the
block it has received (such as the gradients of the texts); the results follow one hop behind and return to the owner of
the block, summed over all processes. So nothing is gathered: a process holds two blocks and two results, for any number
of processes (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", section 3.3, extended by the gradients).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

Block = tuple[Tensor, ...]
Work = Callable[[Block, int], Block]
Merge = Callable[[Tensor, Tensor], Tensor]

BLOCK, RESULT = 1, 2


class Transfer:
    """Tensors in transfer to the next process and from the previous one."""

    def __init__(self, sent: Block, received: Block, works: list[dist.Work]) -> None:
        self._sent, self._received, self._works = sent, received, works

    def wait(self) -> Block:
        """The received tensors; the sent tensors must not be modified before."""
        for work in self._works:
            work.wait()
        return self._received


@dataclass(frozen=True)
class Ring:
    """The processes that share one batch, in the order of their ranks.

    Attributes:
        rank: of this process.
        size: number of processes.
        group: their process group; None for a single process.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    def over(cls, group: dist.ProcessGroup | None = None) -> Ring:
        """The ring of a process group, by default of all processes; of this process alone without torch.distributed."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        group = group or dist.group.WORLD
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def exchange(self, block: Block, work: Work, merge: Merge) -> Block:
        """Pass a block once around the ring and return the merged results of all processes.

        The next block is transferred while one is being processed.

        Args:
            block: this process's tensors; with the same shapes in every process.
            work: ``work(block, owner)`` returns this process's result for the block of process ``owner``: new tensors
                with the same shapes in every process. An empty result is not sent.
            merge: combines two results of a block, tensor by tensor.
        """
        result: Block = ()
        results: Transfer | None = None
        for hop in range(self.size):
            next_block = self._pass_on(block, BLOCK) if hop + 1 < self.size else None
            result = work(block, (self.rank - hop) % self.size)
            if results is not None:
                result = tuple(merge(own, others) for own, others in zip(result, results.wait(), strict=True))
            results = self._pass_on(result, RESULT) if self.size > 1 and result else None
            if next_block is not None:
                block = next_block.wait()
        return result if results is None else results.wait()

    def _pass_on(self, tensors: Block, tag: int) -> Transfer:
        assert self.group is not None
        right = dist.get_global_rank(self.group, (self.rank + 1) % self.size)
        left = dist.get_global_rank(self.group, (self.rank - 1) % self.size)
        sent = tuple(t.contiguous() for t in tensors)
        received = tuple(torch.empty_like(t) for t in sent)
        first_tag = 8 * tag  # a tag of its own for each tensor, so that messages cannot be mixed up
        operations = [dist.P2POp(dist.isend, t, right, self.group, first_tag + i) for i, t in enumerate(sent)]
        operations += [dist.P2POp(dist.irecv, t, left, self.group, first_tag + i) for i, t in enumerate(received)]
        return Transfer(sent, received, dist.batch_isend_irecv(operations))


SINGLE_RING = Ring()
