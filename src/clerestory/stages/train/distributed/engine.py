"""What the training loop asks of the machines it runs on.

``Engine`` is one process on its own. ``Several`` is one of several that share each batch, started by ``torchrun`` (or
Ray): under ``ddp`` each holds the whole model (``DistributedDataParallel``), under ``fsdp`` a part of every tensor
(``fully_shard``). The step is the same: equal seeds, data and batch give the weights of a single process up to the
rounding of sums.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from clerestory.core.errors import ClerestoryError, ConfigError
from clerestory.models.model import ClerestoryModel
from clerestory.stages.train import checkpoint
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.distributed import state as shared
from clerestory.stages.train.distributed.norms import over_ranks
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks
from clerestory.stages.train.distributed.sharded import like, whole

Forward = Callable[..., Any]
TOLD_BY_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


class Engine:
    """One process that does everything.

    Attributes:
        name: for the evidence.
        ranks: who shares a batch.
        local: processes on this machine, which share its cores.
    """

    name = "single"
    ranks = SINGLE
    local = 1

    @property
    def first(self) -> bool:
        """Whether this process writes log, models and evidence."""
        return self.ranks.rank == 0

    def prepare(self, model: ClerestoryModel, objectives: Sequence[nn.Module], losses: Forward) -> Forward:
        """Make the model and what the objectives have of their own ready; returns what to call for the losses.

        To be called before anything keeps their parameters.

        Args:
            model: what learns.
            objectives: with parameters and layers of their own.
            losses: step context to parts of the loss; passes through all of these.
        """
        return losses

    @contextmanager
    def averaged(self, model: ClerestoryModel, average: Mapping[str, Tensor]) -> Iterator[ClerestoryModel]:
        """A model in evaluation mode with the averaged weights; only the first process may look at it."""
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(average)
        model.train(False)
        try:
            yield model
        finally:
            model.load_state_dict(own)
            model.train()

    def save(self, folder: Path, position: Position, state: Mapping[str, Tensor]) -> None:
        """Write a checkpoint that appears at once or not at all."""
        checkpoint.write(folder, position, state)

    def load(self, folder: Path, state: Mapping[str, Tensor]) -> Position | None:
        """Set ``state`` to the last checkpoint, by however many processes it was written; None where there is none."""
        alone, together = checkpoint.read(folder), shared.latest(folder)
        if alone is not None and (together is None or together[0].step <= alone[0].step):
            with torch.no_grad():
                for name, mine in state.items():
                    mine.copy_(like(alone[1][name].to(mine.device), mine))
            return alone[0]
        if together is None:
            return None
        shared.read(together[1], state, self.ranks)
        return together[0]


class Several(Engine):
    """One of several processes.

    Args:
        ranks: who they are.
        parallel: ``ddp`` or ``fsdp``.
        local: how many of them are on this machine.
    """

    def __init__(self, ranks: Ranks, parallel: str, local: int) -> None:
        self.ranks, self.name, self.local = ranks, parallel, local
        self._twin: ClerestoryModel | None = None

    def prepare(self, model: ClerestoryModel, objectives: Sequence[nn.Module], losses: Forward) -> Forward:
        """Batch norm over all ranks, then the wrapper."""
        if self.name == "fsdp" and self.first:
            self._twin = copy.deepcopy(model).cpu()
        step = _Step(model, objectives, losses)
        over_ranks(step, self.ranks)
        if self.name == "fsdp":
            return _sharded(step, self.ranks.world)
        # Batch norm keeps its running statistics equal by itself, so buffers need not be sent around. Newer torch has
        # another name for the switch and warns of the old one.
        known = inspect.signature(DistributedDataParallel).parameters
        switch = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        return DistributedDataParallel(step, find_unused_parameters=True, **{switch: False})  # type: ignore[arg-type]  # a flag

    @contextmanager
    def averaged(self, model: ClerestoryModel, average: Mapping[str, Tensor]) -> Iterator[ClerestoryModel]:
        """Sharded weights come together in a model of the first process; the others only send their part."""
        if self.name == "ddp":
            with super().averaged(model, average) as same:
                yield same
            return
        for name, tensor in average.items():
            full = whole(tensor)
            if self._twin is not None:
                self._twin.state_dict()[name].copy_(full)
        yield model if self._twin is None else self._twin.train(False)

    def save(self, folder: Path, position: Position, state: Mapping[str, Tensor]) -> None:
        """Every rank writes its part."""
        shared.write(folder, position, state, self.ranks)


class _Step(nn.Module):
    """Everything with parameters under one roof, so that a wrapper sees all of them used in one forward pass."""

    def __init__(self, model: ClerestoryModel, objectives: Sequence[nn.Module], losses: Forward) -> None:
        super().__init__()
        self.model, self.objectives = model, nn.ModuleList(objectives)
        self._losses = losses

    def forward(self, context: Any) -> Any:
        return self._losses(context)


def _sharded(step: _Step, world: int) -> nn.Module:
    """Each Transformer block a unit of its own, so that only one is whole at a time; all the rest is another."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(step.parameters()).device.type, (world,))
    stacks = [blocks for name, blocks in step.model.named_modules() if isinstance(blocks, nn.ModuleList)]
    for block in (block for blocks in stacks for block in blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(step, mesh=mesh)
    return step


ALONE = Engine()


@contextmanager
def here(config: TrainConfig) -> Iterator[Engine]:
    """The engine of this process: one of several where ``torchrun`` or Ray has started it, else alone.

    Each process of a machine gets a GPU of its own, unless the settings say ``cpu`` or there is none.

    Raises:
        ConfigError: the settings ask for what several processes cannot do.
        ClerestoryError: another process has ended in the middle; the run can be resumed.
    """
    begun = distributed.is_available() and distributed.is_initialized()
    world = distributed.get_world_size() if begun else int(os.environ.get("WORLD_SIZE", "1"))
    if world < 2 or not (begun or os.environ.keys() >= TOLD_BY_TORCHRUN):
        yield ALONE
        return
    if config.accumulate > 1:
        raise ConfigError(
            f"accumulate is {config.accumulate}, and {world} processes share the batch already",
            "set accumulate to 1 and start more processes, or train with one",
        )
    backend = "gloo"
    if config.device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"  # numbers for the log travel beside the gradients
    with _loss_told():
        if not begun:
            distributed.init_process_group(backend)
        ranks = Ranks(distributed.get_rank(), world)
        yield Several(ranks, config.parallel, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if not begun:
        distributed.destroy_process_group()


@contextmanager
def _loss_told() -> Iterator[None]:
    """Turn what the exchange with a vanished process raises into a sentence."""
    try:
        yield
    except (distributed.DistError, RuntimeError) as error:
        text = str(error)
        signs = ("gloo", "NCCL", "onnection", "Broken pipe", "process group")
        if isinstance(error, distributed.DistError) or any(sign in text for sign in signs):
            raise ClerestoryError(
                "another process of this training has ended, so this one cannot go on",
                "see why the other one ended; the same command goes on from the last checkpoint",
            ) from error
        raise
