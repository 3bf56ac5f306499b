"""The training loop's interface to the processes it runs on.

``Engine`` is a single process. ``DistributedEngine`` is one of several that share each batch, started by ``torchrun``
or Ray: with ``ddp`` each has a copy of the model (``DistributedDataParallel``), with ``fsdp`` a shard of every tensor
(``fully_shard``). The step is the same: equal seeds, data and batch give the weights of a single process up to the
rounding of sums.
"""

from __future__ import annotations

import copy
import gc
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from clerestory.core.errors import ClerestoryError, ConfigError
from clerestory.models.model import ClerestoryModel
from clerestory.stages.train import checkpoint
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.distributed import sharded_checkpoint
from clerestory.stages.train.distributed.batch_norm import convert_batch_norms
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks
from clerestory.stages.train.distributed.sharded_tensors import full_tensor, shard_like

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Forward = Callable[..., Any]
TORCHRUN_VARIABLES = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


class Engine:
    """A single process.

    Attributes:
        name: for the evidence.
        ranks: this process among those that share a batch.
        local_world_size: processes on this machine, which share its cores.
    """

    name = "single"
    ranks = SINGLE
    local_world_size = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the log, the models and the evidence."""
        return self.ranks.rank == 0

    def prepare(self, model: ClerestoryModel, objectives: Sequence[nn.Module], losses: Forward) -> Forward:
        """Wrap the model and the objectives' own modules; returns the function that computes the losses.

        Call it before anything else refers to their parameters.

        Args:
            model: the trained model.
            objectives: with parameters and modules of their own.
            losses: from step context to loss terms; runs all of these modules.
        """
        return losses

    @contextmanager
    def ema_model(self, model: ClerestoryModel, average: Mapping[str, Tensor]) -> Iterator[ClerestoryModel]:
        """A model in evaluation mode with the averaged weights; only the main process may use it."""
        trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(average)
        model.train(False)
        try:
            yield model
        finally:
            model.load_state_dict(trained)
            model.train()

    def save(self, folder: Path, position: Position, state: Mapping[str, Tensor]) -> None:
        """Write a checkpoint atomically."""
        checkpoint.write(folder, position, state)

    def load(
        self, folder: Path, state: Mapping[str, Tensor], report: Callable[[str], object] = lambda message: None
    ) -> Position | None:
        """Set ``state`` to the last intact checkpoint, written by any number of processes; None if there is none."""
        plain, sharded = checkpoint.read(folder, report), sharded_checkpoint.latest(folder, report)
        if plain is not None and (sharded is None or sharded[0].step <= plain[0].step):
            with torch.no_grad():
                for name, tensor in state.items():
                    tensor.copy_(shard_like(plain[1][name].to(tensor.device), tensor))
            return plain[0]
        if sharded is None:
            return None
        sharded_checkpoint.read(sharded[1], state, self.ranks)
        return sharded[0]


class DistributedEngine(Engine):
    """One of several processes.

    Args:
        ranks: this process among them.
        parallelism: ``ddp`` or ``fsdp``.
        local_world_size: number of processes on this machine.
    """

    def __init__(self, ranks: Ranks, parallelism: str, local_world_size: int) -> None:
        self.ranks, self.name, self.local_world_size = ranks, parallelism, local_world_size
        self._full_copy: ClerestoryModel | None = None
        self._mesh: DeviceMesh | None = None

    def prepare(self, model: ClerestoryModel, objectives: Sequence[nn.Module], losses: Forward) -> Forward:
        """Convert batch norms to all ranks, then wrap the step."""
        if self.name == "fsdp" and self.is_main:
            self._full_copy = copy.deepcopy(model).cpu()
        step = _Step(model, objectives, losses)
        convert_batch_norms(step, self.ranks)
        if self.name == "fsdp":
            self._mesh = _fully_shard(step, self.ranks.world_size)
            return step
        # Batch norm's running statistics are equal on all ranks already, so buffers are not broadcast. Newer torch
        # versions rename the argument and warn about the old name.
        known = inspect.signature(DistributedDataParallel).parameters
        argument = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        return DistributedDataParallel(step, find_unused_parameters=True, **{argument: False})  # type: ignore[arg-type]  # a flag

    @contextmanager
    def ema_model(self, model: ClerestoryModel, average: Mapping[str, Tensor]) -> Iterator[ClerestoryModel]:
        """Sharded weights are gathered in a model of the main process; the others only send their shards."""
        if self.name == "ddp":
            with super().ema_model(model, average) as averaged:
                yield averaged
            return
        for name, tensor in average.items():
            full = full_tensor(tensor)
            if self._full_copy is not None:
                self._full_copy.state_dict()[name].copy_(full)
        yield model if self._full_copy is None else self._full_copy.train(False)

    def save(self, folder: Path, position: Position, state: Mapping[str, Tensor]) -> None:
        """Every rank writes its shards."""
        sharded_checkpoint.write(folder, position, state, self.ranks)

    def close(self) -> None:
        """Destroy the process group, and end its threads while the interpreter still runs.

        A thread that releases the tensors of the last exchange during the interpreter's shutdown aborts the process
        (torch issue 190489). Destroying the group ends its threads only when nothing refers to it any more, but
        torch's caches keep the mesh for good, and the mesh keeps the group.
        """
        gc.collect()  # modules and their hooks refer to each other
        groups: dict[str, object] = getattr(self._mesh, "_pg_registry", {})
        groups.clear()
        distributed.destroy_process_group()


class _Step(nn.Module):
    """One module with all parameters, so that the wrapper sees all of them used in one forward pass."""

    def __init__(self, model: ClerestoryModel, objectives: Sequence[nn.Module], losses: Forward) -> None:
        super().__init__()
        self.model, self.objectives = model, nn.ModuleList(objectives)
        self._losses = losses

    def forward(self, context: Any) -> Any:
        return self._losses(context)


def _fully_shard(step: _Step, world_size: int) -> DeviceMesh:
    """Shard each Transformer block as a unit, so that only one is gathered at a time; the rest is another unit."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(step.parameters()).device.type, (world_size,))
    stacks = [blocks for name, blocks in step.model.named_modules() if isinstance(blocks, nn.ModuleList)]
    for block in (block for blocks in stacks for block in blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(step, mesh=mesh)
    return mesh


SINGLE_PROCESS = Engine()


@contextmanager
def current_engine(config: TrainConfig) -> Iterator[Engine]:
    """The engine of this process: distributed if ``torchrun`` or Ray started it, otherwise a single process.

    Each process of a machine gets its own GPU, unless the setting is ``cpu`` or there is none.

    Raises:
        ConfigError: a setting is not supported with several processes.
        ClerestoryError: another process ended during the run; the run can be resumed.
    """
    initialized = distributed.is_available() and distributed.is_initialized()
    world_size = distributed.get_world_size() if initialized else int(os.environ.get("WORLD_SIZE", "1"))
    if world_size < 2 or not (initialized or os.environ.keys() >= TORCHRUN_VARIABLES):
        yield SINGLE_PROCESS
        return
    if config.grad_accum_steps > 1:
        raise ConfigError(
            f"grad_accum_steps is {config.grad_accum_steps}, but {world_size} processes already share the batch",
            "set grad_accum_steps to 1 and start more processes, or train with one",
        )
    backend = "gloo"
    if config.device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"  # metrics for the log are exchanged over gloo
    with _translate_peer_failures():
        if not initialized:
            distributed.init_process_group(backend)
        ranks = Ranks(distributed.get_rank(), world_size)
        engine = DistributedEngine(ranks, config.parallelism, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        yield engine
    if not initialized:
        engine.close()


@contextmanager
def _translate_peer_failures() -> Iterator[None]:
    """Translate errors of the communication with a process that has ended."""
    try:
        yield
    except (distributed.DistError, RuntimeError) as error:
        text = str(error)
        markers = ("gloo", "NCCL", "onnection", "Broken pipe", "process group")
        if isinstance(error, distributed.DistError) or any(marker in text for marker in markers):
            raise ClerestoryError(
                "another process of this training ended, so this one cannot continue",
                "find out why it ended; the same command resumes from the last checkpoint",
            ) from error
        raise
