"""What one process of several does.

``steps`` resumes from the checkpoint in the folder and saves another; the main process writes the whole state.
``exchange`` compares the values that processes exchange with those of one process that has all samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from tests.support.shapes import shapes
from torch import Tensor, distributed, nn

from clerestory.core.progress import QUIET
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.distributed import Engine, Ranks, current_engine
from clerestory.stages.train.distributed.batch_norm import CrossRankBatchNorm, convert_batch_norms
from clerestory.stages.train.distributed.sharded_tensors import full_tensor
from clerestory.stages.train.loop import Run
from clerestory.stages.train.run import prepare_run


def steps(folder: Path, until: int, parallelism: Literal["ddp", "fsdp"] = "ddp") -> None:
    config = TrainConfig(preset="tiny", steps=60, batch_size=16, threads=1, device="cpu", parallelism=parallelism)
    folder.mkdir(parents=True, exist_ok=True)
    with current_engine(config) as engine:
        _steps(config, engine, folder, until)
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert "pt_gloo_runloop" not in threads, "a thread of the process group would abort the interpreter's shutdown"


def _steps(config: TrainConfig, engine: Engine, folder: Path, until: int) -> None:
    run = prepare_run(shapes(), config.resolved(), folder, QUIET, engine=engine)
    initial = _full_state(run)
    run.restore()
    resumed_at = run.position.step
    while run.position.step < until:
        run.step()
    run.save()
    run.export("model")
    run.validate()
    sharded = [type(p).__name__ == "DTensor" for p in run.model.parameters()]
    state = _full_state(run)
    run.loader.close()
    if engine.is_main:
        saved = {"initial": initial, "state": state, "resumed_at": resumed_at, "sharded": all(sharded)}
        torch.save(saved, folder / "state.pt")


def _full_state(run: Run) -> dict[str, Tensor]:
    return {name: full_tensor(tensor).clone() for name, tensor in run.state().items()}


def exchange() -> None:
    distributed.init_process_group("gloo")
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size())
    assert ranks.means({"a": float(ranks.rank), "b": 1.0}) == {"a": 0.5, "b": 1.0}
    assert ranks.any(ranks.rank == 1)
    assert not ranks.any(False)
    assert ranks.broadcast({"rank": ranks.rank}) == {"rank": 0}
    assert [ranks.shard_size(count) for count in (1, 2, 3)] == ([1, 1, 2] if ranks.rank == 0 else [0, 1, 1])
    value = torch.tensor([1.0, 5.0])[ranks.rank] * ranks.mean_weight(1 + 2 * ranks.rank)
    assert ranks.means({"mean": float(value)})["mean"] == (1 * 1 + 3 * 5) / 4

    all_BCHW = torch.randn(8, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 1
    for shape, kind in (((8, 3, 4, 5), nn.BatchNorm2d), ((8, 60), nn.BatchNorm1d)):
        x = all_BCHW.reshape(shape)
        plain = kind(shape[1]).double()
        with torch.no_grad():
            plain.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        mine = kind(shape[1]).double()
        mine.load_state_dict(plain.state_dict())
        convert_batch_norms(nn.Sequential(mine), ranks)
        assert type(mine) is CrossRankBatchNorm
        for _ in range(2):
            whole_loss, whole_grad = _loss(plain, x, x)
            loss, grad = _loss(mine, ranks.shard(x), ranks.shard(x))
        torch.testing.assert_close(ranks.means({"loss": loss})["loss"], whole_loss)
        torch.testing.assert_close(grad / ranks.world_size, ranks.shard(whole_grad))
        for name, tensor in plain.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], tensor, msg=name)
        for p, q in zip(mine.parameters(), plain.parameters(), strict=True):
            assert p.grad is not None
            distributed.all_reduce(p.grad)
            torch.testing.assert_close(p.grad / ranks.world_size, q.grad)
        torch.testing.assert_close(mine.eval()(x), plain.eval()(x))

    rows = torch.full((2, 3), float(ranks.rank), requires_grad=True)
    every = ranks.gather(rows)
    assert every[:, 0].tolist() == [0, 0, 1, 1]
    assert ranks.gathered_indices(rows).tolist() == [2 * ranks.rank, 2 * ranks.rank + 1]
    (every * torch.arange(4.0)[:, None] * (1 + ranks.rank)).sum().backward()
    assert rows.grad is not None
    assert rows.grad[:, 0].tolist() == [3 * i for i in ranks.gathered_indices(rows).tolist()], (
        "what both ranks made of these rows"
    )
    distributed.destroy_process_group()


def _loss(norm: nn.Module, x: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """A mean over images that is not linear in the norm's output."""
    x = x.clone().requires_grad_()
    norm.zero_grad()
    loss = (norm(x).sin() * target).square().flatten(1).sum(1).mean()
    loss.backward()
    assert x.grad is not None
    return loss.item(), x.grad
