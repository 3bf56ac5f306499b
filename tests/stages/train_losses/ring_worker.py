"""One process of a ring: its share of the batch through a loss, results written beside the others'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from tests.stages.train_losses.oracles import saved_bytes
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from clerestory.stages.train.losses import Ring, grad_cache_step, matryoshka, sigmoid_loss, softmax_loss

SIZES = (2, 4)
DIMS = (3, 8, 12)


def work(folder: Path) -> None:
    """Every case of ``cases.pt``, as one of two processes (two such rings exist) and as one of all four."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    try:
        pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        cases = torch.load(folder / "cases.pt", weights_only=True)
        for size, group in zip(SIZES, (pairs[rank // 2], None), strict=True):
            ring = Ring.over(group)
            assert (ring.rank, ring.size) == (rank % size, size)
            found = {name: _one(name, case, ring) for name, case in cases.items()}
            torch.save(found, folder / f"found-{size}-{rank}.pt")
        torch.save(_data_parallel(cases["sigmoid"], Ring.over()), folder / f"parallel-{rank}.pt")
    finally:
        dist.destroy_process_group()


def towers() -> tuple[nn.Module, nn.Module]:
    """Two small towers, the same in every process."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 5)), nn.Linear(12, 5)


def _data_parallel(case: dict[str, torch.Tensor], ring: Ring) -> list[torch.Tensor]:
    """Gradients of a step in micro-batches of 2, over all processes, as DistributedDataParallel averages them."""
    images, texts = (case[key].chunk(ring.size)[ring.rank].split(2) for key in ("images", "texts"))
    both = [DistributedDataParallel(tower) for tower in towers()]
    scale, bias = case["scale"].clone().requires_grad_(), case["bias"].clone().requires_grad_()

    @contextmanager
    def no_sync() -> Iterator[None]:
        with both[0].no_sync(), both[1].no_sync():
            yield

    def loss(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return sigmoid_loss(images, texts, scale, bias, ring=ring)

    grad_cache_step(both[0], both[1], loss, list(zip(images, texts, strict=True)), no_sync=no_sync)
    return [p.grad for tower in both for p in tower.parameters() if p.grad is not None]


def _one(name: str, case: dict[str, torch.Tensor], ring: Ring) -> dict[str, torch.Tensor]:
    images, texts = (case[key].chunk(ring.size)[ring.rank].clone().requires_grad_() for key in ("images", "texts"))
    own = case["own"].chunk(ring.size)[ring.rank] if "own" in case else None
    scale, bias = case["scale"].clone().requires_grad_(), case["bias"].clone().requires_grad_()

    def loss() -> torch.Tensor:
        if name.startswith("sigmoid nested"):
            nested = partial(sigmoid_loss, caption_B=own, ring=ring, rows=5)
            return matryoshka(nested, (images, texts), DIMS, parameters=(scale, bias))
        if name.startswith("sigmoid"):
            return sigmoid_loss(images, texts, scale, bias, caption_B=own, ring=ring, rows=5)
        return softmax_loss(images, texts, scale, caption_B=own, ring=ring, rows=5)

    if name.endswith("compiled"):
        loss = torch.compile(loss, backend="aot_eager")
    value = loss()
    (3 * value).backward()
    gradients = {"images": images.grad, "texts": texts.grad, "scale": scale.grad}
    if name.startswith("sigmoid"):
        gradients["bias"] = bias.grad
    same = case["images"][: len(case["images"]) // 4].clone().requires_grad_()  # one size, whatever the world's

    def fixed() -> torch.Tensor:
        if name.startswith("sigmoid nested"):
            nested = partial(sigmoid_loss, ring=ring)
            return matryoshka(nested, (same, same), DIMS, parameters=(scale, bias))
        if name.startswith("sigmoid"):
            return sigmoid_loss(same, same, scale, bias, ring=ring)
        return softmax_loss(same, same, scale, ring=ring)

    return gradients | {"loss": value.detach(), "bytes": torch.tensor(saved_bytes(fixed))}
