"""Blocks that go around a ring of processes, and what they bring home.

Every process keeps its pictures; the texts travel. At each stop a process works on the block that is there, and what
it makes of it (the texts' gradients, say) travels one stop behind the block and comes home with the sum of all. So
nothing is gathered: a process holds two blocks and two results, whatever the number of processes (the exchange of
Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", section 3.3, with the gradient on board).
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


class Pending:
    """Tensors on their way to the next process, and the ones on their way here."""

    def __init__(self, sent: Block, arriving: Block, works: list[dist.Work]) -> None:
        self._sent, self._arriving, self._works = sent, arriving, works

    def wait(self) -> Block:
        """What has arrived; only after this may what was sent be changed."""
        for work in self._works:
            work.wait()
        return self._arriving


@dataclass(frozen=True)
class Ring:
    """The processes that share one batch, in the order of their ranks.

    Attributes:
        rank: this process.
        size: how many there are.
        group: their process group; None when this process is alone.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    def over(cls, group: dist.ProcessGroup | None = None) -> Ring:
        """The ring of a process group, by default of all processes; alone where nothing is distributed."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        group = group or dist.group.WORLD
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    def travel(self, block: Block, work: Work, merge: Merge) -> Block:
        """Take a block once around and return what all the processes made of it.

        While one block is worked on, the next one is already on its way.

        Args:
            block: this process's tensors; of the same shapes in every process.
            work: ``work(block, owner)`` gives this process's result for the block of process ``owner``, new tensors of
                the same shapes in every process. An empty result is not sent.
            merge: joins two results of one block, tensor by tensor.
        """
        made: Block = ()
        behind: Pending | None = None
        for hop in range(self.size):
            ahead = self._pass_on(block, BLOCK) if hop + 1 < self.size else None
            made = work(block, (self.rank - hop) % self.size)
            if behind is not None:
                made = tuple(merge(mine, theirs) for mine, theirs in zip(made, behind.wait(), strict=True))
            behind = self._pass_on(made, RESULT) if self.size > 1 and made else None
            if ahead is not None:
                block = ahead.wait()
        return made if behind is None else behind.wait()

    def _pass_on(self, tensors: Block, tag: int) -> Pending:
        assert self.group is not None
        right = dist.get_global_rank(self.group, (self.rank + 1) % self.size)
        left = dist.get_global_rank(self.group, (self.rank - 1) % self.size)
        sent = tuple(t.contiguous() for t in tensors)
        arriving = tuple(torch.empty_like(t) for t in sent)
        several = 8 * tag  # one tag per tensor: two messages of one pair of processes are never confused
        operations = [dist.P2POp(dist.isend, t, right, self.group, several + i) for i, t in enumerate(sent)]
        operations += [dist.P2POp(dist.irecv, t, left, self.group, several + i) for i, t in enumerate(arriving)]
        return Pending(sent, arriving, dist.batch_isend_irecv(operations))


ALONE = Ring()
