"""Losses over several processes: equal to one process, and no more memory with more of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from tests.stages.train_losses.oracles import gap, unit_pairs
from tests.stages.train_losses.ring_worker import DIMS, SIZES, towers, work
from tests.support.ranks import run_ranks

from clerestory.stages.train.losses import Ring, matryoshka, sigmoid_loss, softmax_loss

COUNT, WIDTH = 24, 12


def _cases() -> dict[str, dict[str, torch.Tensor]]:
    images, texts = (t.detach() for t in unit_pairs(COUNT, WIDTH))
    plain = {"images": images, "texts": texts, "scale": torch.tensor(7.0), "bias": torch.tensor(-3.0)}
    own = {"own": torch.arange(COUNT) % 9}  # the same captions in several processes
    double = {key: value.double() for key, value in plain.items()}
    nested = {"sigmoid nested": plain | own, "sigmoid nested double": double}
    return (
        nested
        | {"sigmoid compiled": plain}
        | {
            f"{loss}{kind}": case
            for loss in ("sigmoid", "softmax")
            for kind, case in {"": plain, " numbered": plain | own, " double": double}.items()
        }
    )


def _alone(name: str, case: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    leaves = {key: case[key].clone().requires_grad_() for key in ("images", "texts", "scale", "bias")}
    own = case.get("own")
    if name.startswith("sigmoid nested"):
        images, texts, *parameters = leaves.values()
        loss = matryoshka(partial(sigmoid_loss, caption_B=own), (images, texts), DIMS, parameters=parameters)
    elif name.startswith("sigmoid"):
        loss = sigmoid_loss(leaves["images"], leaves["texts"], leaves["scale"], leaves["bias"], caption_B=own)
    else:
        loss = softmax_loss(leaves["images"], leaves["texts"], leaves["scale"], caption_B=own)
    (3 * loss).backward()
    gradients = {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}
    return gradients | {"loss": loss.detach()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where four processes left what they found."""
    folder = tmp_path_factory.mktemp("ring")
    torch.save(_cases(), folder / "cases.pt")
    run_ranks(4, work, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[int, list[dict[str, dict[str, torch.Tensor]]]]:
    """For rings of 2 (ranks 2 and 3, whose numbers within the ring differ) and of 4: what each process found."""
    return {
        size: [torch.load(folder / f"found-{size}-{rank}.pt", weights_only=True) for rank in range(4)[-size:]]
        for size in SIZES
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", _cases())
def test_several_processes_equal_one(name: str, size: int, found: dict[int, list[dict]]) -> None:
    ranks, alone = [one[name] for one in found[size]], _alone(name, _cases()[name])
    near = 1e-12 if name.endswith("double") else 1e-5
    wanted = [alone["loss"], alone["images"], alone["texts"], alone["scale"]]
    got = [
        torch.stack([one["loss"] for one in ranks]).mean(),
        # Data parallel training averages: the share of one process is 1 / size of the whole.
        torch.cat([one["images"] for one in ranks]) / size,
        torch.cat([one["texts"] for one in ranks]) / size,
        torch.stack([one["scale"] for one in ranks]).mean(),
    ]
    if "bias" in alone:
        wanted.append(alone["bias"])
        got.append(torch.stack([one["bias"] for one in ranks]).mean())
    assert gap(got, wanted) < near


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "sigmoid nested"])
def test_more_processes_save_not_one_byte_more(name: str, found: dict[int, list[dict]]) -> None:
    sizes = {int(one[name]["bytes"]) for ranks in found.values() for one in ranks}
    assert len(sizes) == 1
    assert sizes.pop() <= 2 * (COUNT // 4) * WIDTH * 4 + 8


def test_micro_batches_in_data_parallel_processes_equal_one_batch(folder: Path) -> None:
    case, (image, text) = _cases()["sigmoid"], towers()
    sigmoid_loss(image(case["images"]), text(case["texts"]), case["scale"], case["bias"]).backward()
    wanted = [p.grad for tower in (image, text) for p in tower.parameters()]
    for rank in range(4):
        assert gap(torch.load(folder / f"parallel-{rank}.pt", weights_only=True), wanted) < 1e-5


def test_alone_there_is_nothing_to_send() -> None:
    ring = Ring.over()
    assert (ring.rank, ring.size, ring.group) == (0, 1, None)
    (made,) = ring.exchange((torch.ones(2),), lambda block, owner: (block[0] + owner,), torch.add)
    assert made.tolist() == [1, 1]
