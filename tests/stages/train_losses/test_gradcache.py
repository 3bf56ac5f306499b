"""Large batches in small pieces: the same gradients as the batch at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from tests.stages.train_losses.oracles import gap
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.errors import InputError
from clerestory.stages.train.losses import grad_cache_step, sigmoid_loss, softmax_loss

WIDTH = 12


class Pair(nn.Module):
    """Two small towers with dropout, a scale and a bias."""

    def __init__(self, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = (
            nn.Sequential(nn.Linear(sum_dtype, 32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, WIDTH))
            for sum_dtype in (20, 9)
        )
        self.scale, self.bias = nn.Parameter(torch.tensor(8.0)), nn.Parameter(torch.tensor(-4.0))
        self.to(dtype)

    def images(self, x: Tensor) -> Tensor:
        return F.normalize(self.image(x), dim=1)

    def texts(self, x: Tensor) -> Tensor:
        return F.normalize(self.text(x), dim=1)

    def sigmoid(self, images: Tensor, texts: Tensor) -> Tensor:
        return sigmoid_loss(images, texts, self.scale, self.bias)

    def softmax(self, images: Tensor, texts: Tensor) -> Tensor:
        return softmax_loss(images, texts, self.scale) + 0 * self.bias

    def gradients(self) -> list[Tensor]:
        found = [p.grad for p in self.parameters() if p.grad is not None]
        self.zero_grad()
        return found


def batch(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.randn(count, sum_dtype, generator=draw, dtype=dtype) for sum_dtype in (20, 9))  # type: ignore[return-value]  # two


def pieces(pair: tuple[Tensor, Tensor], size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(pair[0].split(size), pair[1].split(size), strict=True))


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_4096_in_pieces_of_64_equal_the_full_batch(name: str) -> None:
    model, data = Pair(), batch(4096)
    loss: Callable[[Tensor, Tensor], Tensor] = getattr(model, name)
    whole = loss(model.images(data[0]), model.texts(data[1]))
    whole.backward()
    wanted = model.gradients()
    value = grad_cache_step(model.images, model.texts, loss, pieces(data, 64))
    assert not value.requires_grad
    torch.testing.assert_close(value, whole.detach())
    assert gap(model.gradients(), wanted) < 1e-5


def test_dropout_drops_the_same_twice() -> None:
    model, data = Pair(0.4, torch.float64), pieces(batch(40, torch.float64), 7)

    def noisy(images: Tensor, texts: Tensor) -> Tensor:
        return model.sigmoid(images * (1 + torch.rand_like(images)), texts)

    torch.manual_seed(5)
    encoded = [(model.images(image), model.texts(text)) for image, text in data]
    images, texts = (torch.cat(rows) for rows in zip(*encoded, strict=True))
    noisy(images, texts).backward()
    wanted, after = model.gradients(), torch.rand(3)
    torch.manual_seed(5)
    grad_cache_step(model.images, model.texts, noisy, data)
    assert gap(model.gradients(), wanted) < 1e-12
    assert torch.equal(torch.rand(3), after), "what is drawn next does not depend on the second pass"


def test_only_one_piece_has_a_graph_at_a_time() -> None:
    """Nothing of the first pass is kept, and of the second one piece's activations."""
    model, data = Pair(), batch(64)
    largest: dict[int, int] = {}
    for size in (4, 64):
        kept: list[int] = [0]
        most = 0

        def pack(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept[0] += tensor.numel()
            return tensor

        def texts(x: Tensor, kept: list[int] = kept) -> Tensor:
            nonlocal most
            out = model.texts(x)
            most, kept[0] = max(most, kept[0]), 0  # the backward pass of this piece follows
            return out

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            grad_cache_step(model.images, texts, model.sigmoid, pieces(data, size))
        largest[size] = most
    assert largest[4] < largest[64] / 4


def test_a_locked_tower_and_gradients_that_add_up() -> None:
    model, data = Pair(), batch(24)
    model.text.requires_grad_(False)
    model.sigmoid(model.images(data[0]), model.texts(data[1])).backward()
    wanted = [2 * g for g in model.gradients()]
    for _ in range(2):
        grad_cache_step(model.images, model.texts, model.sigmoid, pieces(data, 5))
    assert gap(model.gradients(), wanted) < 1e-5


def test_extra_losses_are_averaged() -> None:
    model, data = Pair(), batch(24)

    def images(x: Tensor) -> tuple[Tensor, Tensor]:
        rows = model.images(x)
        return rows, (model.image(x) ** 2).mean()

    whole = model.sigmoid(model.images(data[0]), model.texts(data[1])) + (model.image(data[0]) ** 2).mean()
    whole.backward()
    wanted = model.gradients()
    value = grad_cache_step(images, model.texts, model.sigmoid, pieces(data, 6))
    torch.testing.assert_close(value, whole.detach())
    assert gap(model.gradients(), wanted) < 1e-5


def test_autocast_forgets_no_gradient() -> None:
    """Half-precision copies of the weights made without a graph must not be used in the second pass."""
    model, data = Pair(), batch(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = model.sigmoid(model.images(data[0]), model.texts(data[1]))
    whole.backward()
    wanted = model.gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grad_cache_step(model.images, model.texts, model.sigmoid, pieces(data, 8))
    got = model.gradients()
    assert len(got) == len(wanted) == len(list(model.parameters()))
    assert gap(got, wanted) < 3e-2


def test_a_step_counts_once() -> None:
    norm = nn.BatchNorm1d(20, momentum=None)
    model, data = Pair(), batch(24)
    grad_cache_step(
        lambda x: model.images(norm(x)), model.texts, model.sigmoid, pieces(data, 6), modules=[norm, nn.Identity()]
    )
    assert int(norm.num_batches_tracked) == 4
    torch.testing.assert_close(norm.running_mean, data[0].mean(dim=0))


def test_processes_agree_only_once_a_step() -> None:
    held: list[bool] = []
    inside = False

    @contextmanager
    def no_sync() -> Iterator[None]:
        nonlocal inside
        inside = True
        yield
        inside = False

    def images(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            held.append(inside)
        return model.images(x)

    model, data = Pair(), batch(12)
    grad_cache_step(images, model.texts, model.sigmoid, pieces(data, 4), no_sync=no_sync)
    assert held == [True, True, False]


def test_nothing_to_learn_from() -> None:
    model = Pair()
    with pytest.raises(InputError, match="no micro-batches"):
        grad_cache_step(model.images, model.texts, model.sigmoid, [])
