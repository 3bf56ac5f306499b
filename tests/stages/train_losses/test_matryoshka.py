"""Losses at nested widths: the plain sum, at the memory of one width."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests.stages.train_losses.oracles import gap, naive_sigmoid, naive_softmax, saved_bytes, unit_pairs
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import InputError
from clerestory.stages.train.losses import (
    grad_cache_step,
    linear_cross_entropy,
    matryoshka,
    sigmoid_loss,
    softmax_loss,
)

DIMS, WEIGHTS = (4, 8, 16), (0.5, 0.25, 2.0)


def numbers(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(value, dtype=dtype, requires_grad=True) for value in (6.0, -2.0)[:count])


@pytest.mark.parametrize(
    ("ours", "naive", "count"), [(sigmoid_loss, naive_sigmoid, 2), (softmax_loss, naive_softmax, 1)]
)
def test_the_plain_sum_at_the_memory_of_one_width(ours: Callable, naive: Callable, count: int) -> None:
    images, texts = unit_pairs(40, 16)
    rest = numbers(count)
    leaves = (images, texts, *rest)
    value = matryoshka(ours, (images, texts), DIMS, WEIGHTS, parameters=rest)
    wanted = sum(
        w * naive(F.normalize(images[:, :d], dim=1), F.normalize(texts[:, :d], dim=1), *rest)
        for d, w in zip(DIMS, WEIGHTS, strict=True)
    )
    torch.testing.assert_close(value, wanted)
    assert gap(torch.autograd.grad(3 * value, leaves), torch.autograd.grad(3 * wanted, leaves)) < 1e-5
    for dims in ((16,), DIMS):
        assert saved_bytes(lambda dims=dims: matryoshka(ours, (images, texts), dims, parameters=rest)) <= 4 * (
            2 * images.numel() + count
        )


def test_double_precision_gradcheck() -> None:
    leaves = (*unit_pairs(5, 6, dtype=torch.float64), *numbers(2, torch.float64))
    assert torch.autograd.gradcheck(
        lambda images, texts, *rest: matryoshka(sigmoid_loss, (images, texts), (2, 3, 6), parameters=rest), leaves
    )


def test_one_output_layer_for_all_widths() -> None:
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*shape, generator=draw).requires_grad_() for shape in ((3, 4, 16), (30, 16)))
    target = torch.randint(30, (3, 4), generator=draw)
    value = matryoshka(lambda h, w: linear_cross_entropy(h, w, target), (hidden, weight), DIMS, unit=False)
    wanted = sum(F.cross_entropy((hidden[..., :d] @ weight[:, :d].T).flatten(0, 1), target.flatten()) for d in DIMS)
    torch.testing.assert_close(value, wanted)
    grads = (torch.autograd.grad(v, (hidden, weight)) for v in (value, wanted))
    assert gap(*grads) < 1e-5


def test_inside_a_large_batch_of_small_pieces() -> None:
    images, texts = (t.detach() for t in unit_pairs(24, 16))
    mixing = torch.randn(16, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    rest = numbers(2)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return matryoshka(sigmoid_loss, (a, b), DIMS, parameters=rest)

    wanted = torch.autograd.grad(loss(images @ mixing, texts), (mixing, *rest))
    pieces = list(zip(images.split(5), texts.split(5), strict=True))
    grad_cache_step(lambda x: x @ mixing, lambda x: x, loss, pieces)
    assert gap([leaf.grad for leaf in (mixing, *rest)], wanted) < 1e-5


def test_a_locked_side_and_no_gradient_at_all() -> None:
    images, texts = unit_pairs(12, 16)
    wanted = sum(sigmoid_loss(F.normalize(images[:, :d]), F.normalize(texts[:, :d]).detach(), 5.0, 0.0) for d in DIMS)
    value = matryoshka(lambda a, b: sigmoid_loss(a, b, 5.0, 0.0), (images, texts.detach()), DIMS)
    assert gap(torch.autograd.grad(value, [images]), torch.autograd.grad(wanted, [images])) < 1e-5
    with torch.no_grad():
        assert not matryoshka(lambda a, b: sigmoid_loss(a, b, 5.0, 0.0), (images, texts), DIMS).requires_grad


def plain_sum(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, caption_B: Tensor | None = None) -> Tensor:
    return sum(
        w * sigmoid_loss(F.normalize(images[:, :d]), F.normalize(texts[:, :d]), scale, bias, caption_B=caption_B)
        for d, w in zip(DIMS, WEIGHTS, strict=True)
    )


@pytest.mark.parametrize(("count", "width", "rows"), [(1, 16, None), (33, 16, None), (33, 20, 7), (40, 17, 1)])
@pytest.mark.parametrize("numbered", [False, True])
def test_unnormalised_rows_in_tiles_give_the_plain_sum(
    count: int, width: int, rows: int | None, numbered: bool
) -> None:
    draw = torch.Generator().manual_seed(4)
    images, texts = (3 * torch.randn(count, width, generator=draw, requires_grad=False) for _ in range(2))
    leaves = (images.requires_grad_(), texts.requires_grad_(), *numbers(2))
    own = torch.arange(count) % 11 if numbered else None
    loss = partial(sigmoid_loss, caption_B=own, rows=rows)
    value = matryoshka(loss, leaves[:2], DIMS, WEIGHTS, parameters=leaves[2:])
    wanted = plain_sum(*leaves, caption_B=own)
    torch.testing.assert_close(value, wanted)
    assert gap(torch.autograd.grad(3 * value, leaves), torch.autograd.grad(3 * wanted, leaves)) < 1e-5
    assert saved_bytes(lambda: matryoshka(loss, leaves[:2], DIMS, parameters=leaves[2:])) <= 4 * (
        2 * images.numel() + 2
    )
    with torch.no_grad():
        value = matryoshka(loss, leaves[:2], DIMS, WEIGHTS, parameters=leaves[2:])
        torch.testing.assert_close(value, wanted.detach())


def test_double_precision_gradcheck_with_equal_captions() -> None:
    leaves = (*unit_pairs(5, 6, dtype=torch.float64), *numbers(2, torch.float64))
    loss = partial(sigmoid_loss, caption_B=torch.tensor([0, 1, 0, 2, 3]))
    assert torch.autograd.gradcheck(
        lambda images, texts, *rest: matryoshka(loss, (images, texts), (1, 3, 5), (0.5, 1.0, 2.0), parameters=rest),
        leaves,
    )


def test_one_side_locked_with_trained_scale_and_bias() -> None:
    images, texts = unit_pairs(30, 16)
    rest = numbers(2)
    value = matryoshka(sigmoid_loss, (images, texts.detach()), DIMS, WEIGHTS, parameters=rest)
    wanted = plain_sum(images, texts, *rest)
    assert gap(torch.autograd.grad(value, (images, *rest)), torch.autograd.grad(wanted, (images, *rest))) < 1e-5
    fixed = tuple(number.detach() for number in rest)
    only = matryoshka(sigmoid_loss, (images.detach(), texts), DIMS, WEIGHTS, parameters=fixed)
    wanted = plain_sum(images, texts, *rest)
    assert gap(torch.autograd.grad(only, [texts]), torch.autograd.grad(wanted, [texts])) < 1e-5


def test_half_precision_under_autocast() -> None:
    images, texts = unit_pairs(30, 16)
    rest = numbers(2)
    halves = tuple(t.detach().bfloat16().requires_grad_() for t in (images, texts))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = matryoshka(sigmoid_loss, halves, DIMS, WEIGHTS, parameters=rest)
    found = torch.autograd.grad(value, (*halves, *rest))
    assert gap(found, torch.autograd.grad(plain_sum(images, texts, *rest), (images, texts, *rest))) < 3e-2


def test_what_does_not_fit_is_said() -> None:
    pair = unit_pairs(4, 8)
    for dims in ((), (0, 4), (4, 9)):
        with pytest.raises(InputError, match="do not fit embeddings"):
            matryoshka(softmax_loss, pair, dims)
    with pytest.raises(InputError, match="2 weights"):
        matryoshka(softmax_loss, pair, (4,), (1.0, 2.0))
