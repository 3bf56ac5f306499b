"""Sigmoid and softmax contrastive losses against their plain formulas, in value, gradient and memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.stages.train_losses.oracles import Largest, gap, naive_sigmoid, naive_softmax, saved_bytes, unit_pairs
from torch import Tensor

from clerestory.core.errors import InputError
from clerestory.stages.train.losses import sigmoid_loss, softmax_loss

Loss = Callable[..., Tensor]
BOTH = pytest.mark.parametrize(("ours", "naive"), [(sigmoid_loss, naive_sigmoid), (softmax_loss, naive_softmax)])


def numbers(loss: Loss, dtype: torch.dtype = torch.float32, scale: float = 10.0) -> tuple[Tensor, ...]:
    """Scale, and bias where the loss has one."""
    values = (scale, -10.0) if loss in (sigmoid_loss, naive_sigmoid) else (scale,)
    return tuple(torch.tensor(value, dtype=dtype, requires_grad=True) for value in values)


def learn(loss: Callable[[], Tensor], leaves: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    value = loss()
    return value, torch.autograd.grad(2.5 * value, leaves)


@BOTH
@pytest.mark.parametrize(
    ("count", "width", "rows"), [(1, 4, None), (7, 3, 2), (64, 32, 64), (100, 16, 33), (257, 8, 1)]
)
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_equal_to_the_plain_formula(ours: Loss, naive: Loss, count: int, width: int, rows: int, scale: float) -> None:
    leaves = (*unit_pairs(count, width), *numbers(ours, scale=scale))
    value, gradients = learn(lambda: ours(*leaves, rows=rows), leaves)
    # In float64, so that the plain formula's own rounding is not held against ours.
    exact = tuple(leaf.detach().double().requires_grad_() for leaf in leaves)
    wanted, wanted_gradients = learn(lambda: naive(*exact), exact)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-6)
    for got, right in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(got.double(), right, rtol=1e-5, atol=1e-5 * max(1.0, float(right.abs().max())))


@BOTH
def test_gradients_to_one_in_a_hundred_thousand(ours: Loss, naive: Loss) -> None:
    leaves = (*unit_pairs(512, 64), *numbers(ours))
    _, gradients = learn(lambda: ours(*leaves), leaves)
    _, wanted = learn(lambda: naive(*leaves), leaves)
    assert gap(gradients, wanted) < 1e-5


@BOTH
def test_double_precision_gradcheck(ours: Loss, naive: Loss) -> None:
    leaves = (*unit_pairs(6, 5, dtype=torch.float64), *numbers(ours, torch.float64, scale=3.0))
    assert torch.autograd.gradcheck(lambda *given: ours(*given, rows=4), leaves)
    own = torch.tensor([0, 1, 0, 2, 2, 3])
    assert torch.autograd.gradcheck(lambda *given: ours(*given, caption_B=own, rows=4), leaves)


@BOTH
@pytest.mark.parametrize(("count", "width"), [(64, 8), (512, 32)])
def test_it_saves_only_two_embeddings_and_numbers(ours: Loss, naive: Loss, count: int, width: int) -> None:
    leaves = (*unit_pairs(count, width), *numbers(ours))
    assert saved_bytes(lambda: ours(*leaves)) <= (2 * count * width + 2) * 4
    assert saved_bytes(lambda: naive(*leaves)) > 2 * count * count * 4, "the measure sees what the formula keeps"


@BOTH
def test_a_few_rows_live_at_a_time(ours: Loss, naive: Loss) -> None:
    count, width, rows = 200, 8, 10
    leaves = (*unit_pairs(count, width), *numbers(ours))
    with Largest() as made:
        ours(*leaves, caption_B=torch.arange(count) % 150, rows=rows).backward()
    assert made.numbers <= max(rows * count, count * width)
    with Largest() as plain:
        naive(*leaves).backward()
    assert plain.numbers == count * count


@BOTH
def test_what_needs_no_gradient_is_not_saved(ours: Loss, naive: Loss) -> None:
    images, texts = unit_pairs(32, 8)
    rest = numbers(ours)
    locked = texts.detach()
    assert saved_bytes(lambda: ours(images, locked, *rest)) <= (32 * 8 + 2) * 4
    got = torch.autograd.grad(ours(images, locked, *rest), (images, *rest))
    wanted = torch.autograd.grad(naive(images, locked, *rest), (images, *rest))
    assert gap(got, wanted) < 1e-5
    only = torch.autograd.grad(ours(images.detach(), texts, *(r.detach() for r in rest)), texts)
    assert gap(only, torch.autograd.grad(naive(images, texts, *rest), texts)) < 1e-5
    with torch.no_grad():
        value = ours(images, texts, *rest)
    assert not value.requires_grad
    torch.testing.assert_close(value, naive(images, texts, *rest).detach())


@BOTH
def test_plain_numbers_for_scale_and_bias(ours: Loss, naive: Loss) -> None:
    images, texts = unit_pairs(16, 8)
    given = (5.0, -2.0) if ours is sigmoid_loss else (5.0,)
    torch.testing.assert_close(ours(images, texts, *given), naive(images, texts, *given))


def test_sigmoid_leaves_out_pictures_of_the_same_caption() -> None:
    images, texts = unit_pairs(6, 4)
    own = torch.tensor([3, 1, 3, 1, 2, 0])
    s_BB = 4.0 * images @ texts.T - 1.0
    terms = [
        torch.nn.functional.softplus(-s_BB[i, j] if i == j else s_BB[i, j])
        for i in range(6)
        for j in range(6)
        if i == j or own[i] != own[j]
    ]
    value = sigmoid_loss(images, texts, 4.0, -1.0, caption_B=own, rows=4)
    torch.testing.assert_close(value, torch.stack(terms).sum() / 6)
    assert value < sigmoid_loss(images, texts, 4.0, -1.0)


def test_softmax_leaves_out_pictures_of_the_same_caption() -> None:
    images, texts = unit_pairs(5, 4)
    own = torch.tensor([3, 1, 3, 0, 3])
    s_BB = 4.0 * images @ texts.T
    parts = []
    for i in range(5):
        others = [j for j in range(5) if j == i or own[j] != own[i]]
        parts += [s_BB[i, others].logsumexp(0) - s_BB[i, i], s_BB[others, i].logsumexp(0) - s_BB[i, i]]
    torch.testing.assert_close(softmax_loss(images, texts, 4.0, caption_B=own, rows=2), torch.stack(parts).mean())


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_finite_and_near(ours: Loss, naive: Loss, dtype: torch.dtype) -> None:
    images, texts = unit_pairs(96, 32)
    halves = tuple(t.detach().to(dtype).requires_grad_() for t in (images, texts))
    rest = numbers(ours)
    value, gradients = learn(lambda: ours(*halves, *rest), (*halves, *rest))
    exact = tuple(t.detach().float().requires_grad_() for t in halves)
    wanted, wanted_gradients = learn(lambda: naive(*exact, *rest), (*exact, *rest))
    assert value.dtype == torch.float32
    assert [g.dtype for g in gradients[:2]] == [dtype, dtype]
    torch.testing.assert_close(value, wanted, rtol=5e-3, atol=5e-3)
    assert gap(gradients, wanted_gradients) < 2e-2
    assert all(g.isfinite().all() for g in gradients)


@BOTH
def test_autocast_changes_nothing(ours: Loss, naive: Loss) -> None:
    leaves = (*unit_pairs(32, 8), *numbers(ours))
    plain = learn(lambda: ours(*leaves), leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ours(*leaves)
    assert torch.equal(value, plain[0])
    assert all(map(torch.equal, torch.autograd.grad(2.5 * value, leaves), plain[1]))


@BOTH
def test_extreme_logits_stay_finite(ours: Loss, naive: Loss) -> None:
    leaves = (*unit_pairs(16, 4), *numbers(ours, scale=1e4))
    value, gradients = learn(lambda: ours(*leaves), leaves)
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@BOTH
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's compiler does so
def test_it_compiles_without_a_graph_break(ours: Loss, naive: Loss) -> None:
    torch._dynamo.reset()
    leaves = (*unit_pairs(24, 8), *numbers(ours))
    compiled = torch.compile(lambda *given: ours(*given, rows=16) * 2, fullgraph=True, backend="aot_eager")
    got = torch.autograd.grad(compiled(*leaves), leaves)
    assert gap(got, torch.autograd.grad(2 * ours(*leaves), leaves)) < 1e-6


@BOTH
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x, y[:3]), "have the shapes"),
        (lambda x, y: (x[:0], y[:0]), "have the shapes"),
        (lambda x, y: (x, y.double()), "floating-point type"),
    ],
)
def test_what_does_not_fit_is_said(ours: Loss, naive: Loss, change: Callable, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ours(*change(*unit_pairs(4, 2)), *numbers(ours))


def test_wrong_settings_are_said() -> None:
    images, texts = unit_pairs(4, 2)
    with pytest.raises(InputError, match="0 rows"):
        sigmoid_loss(images, texts, 1.0, 0.0, rows=0)
    with pytest.raises(InputError, match="3 caption numbers for 4 pairs"):
        softmax_loss(images, texts, 1.0, caption_B=torch.arange(3))
