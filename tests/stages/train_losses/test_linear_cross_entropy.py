"""Cross-entropy without logits, and the two ways of reading a caption."""

from __future__ import annotations

import pytest
import torch
from tests.stages.train_losses.oracles import Largest, gap, saved_bytes
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import InputError
from clerestory.stages.train.losses import IGNORE, autoregressive_inputs, cappa_inputs, linear_cross_entropy

PAD, START, END, MASK = 0, 1, 2, 50


def layer(
    shape: tuple[int, ...] = (5, 7), width: int = 6, words: int = 23, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, output layer, its bias, and targets a third of which are ignored."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(*shape, width, generator=draw, dtype=dtype)
    weight = torch.randn(words, width, generator=draw, dtype=dtype)
    bias = torch.randn(words, generator=draw, dtype=dtype)
    target = torch.randint(words, shape, generator=draw)
    target[torch.rand(shape, generator=draw) < 0.33] = IGNORE
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), target


def naive(hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, smoothing: float) -> Tensor:
    logits = F.linear(hidden, weight, bias).flatten(0, -2)
    return F.cross_entropy(logits, target.flatten(), ignore_index=IGNORE, label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("rows", [None, 1, 4, 1000])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equal_to_the_plain_formula(smoothing: float, rows: int | None, with_bias: bool) -> None:
    hidden, weight, bias, target = layer()
    leaves = (hidden, weight, bias) if with_bias else (hidden, weight)
    value = linear_cross_entropy(hidden, weight, target, bias if with_bias else None, smoothing=smoothing, rows=rows)
    wanted = naive(hidden, weight, target, bias if with_bias else None, smoothing)
    torch.testing.assert_close(value, wanted)
    assert gap(torch.autograd.grad(3 * value, leaves), torch.autograd.grad(3 * wanted, leaves)) < 1e-5


def test_double_precision_gradcheck() -> None:
    hidden, weight, bias, target = layer((4,), 3, 5, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_cross_entropy(h, w, target, b, smoothing=0.2, rows=2), (hidden, weight, bias)
    )


def test_tied_word_embeddings_get_both_gradients() -> None:
    _, weight, _, target = layer()
    ids = torch.randint(len(weight), target.shape, generator=torch.Generator().manual_seed(3))
    got = torch.autograd.grad(linear_cross_entropy(weight[ids].tanh(), weight, target), weight)
    wanted = torch.autograd.grad(naive(weight[ids].tanh(), weight, target, None, 0.0), weight)
    assert gap(got, wanted) < 1e-5


def test_the_logits_are_never_held() -> None:
    positions, width, words, rows = 256, 8, 1000, 16
    hidden, weight, _, target = layer((positions,), width, words)
    with Largest() as ours:
        linear_cross_entropy(hidden, weight, target, rows=rows).backward()
    assert ours.numbers <= rows * words
    with Largest() as plain:
        naive(hidden, weight, target, None, 0.0).backward()
    assert plain.numbers == positions * words
    saved = saved_bytes(lambda: linear_cross_entropy(hidden, weight, target))
    assert saved <= 4 * (positions * width + words * width)


def test_only_what_learns_is_computed() -> None:
    hidden, weight, bias, target = layer()
    value = linear_cross_entropy(hidden, weight.detach(), target, bias.detach())
    assert (
        gap(torch.autograd.grad(value, hidden), torch.autograd.grad(naive(hidden, weight, target, bias, 0.0), hidden))
        < 1e-5
    )
    assert saved_bytes(lambda: linear_cross_entropy(hidden, weight.detach(), target)) == hidden.numel() * 4
    with torch.no_grad():
        assert not linear_cross_entropy(hidden, weight, target).requires_grad


def test_a_batch_of_padding_spoils_nothing() -> None:
    hidden, weight, bias, target = layer()
    value = linear_cross_entropy(hidden, weight, torch.full_like(target, IGNORE), bias)
    assert value == 0
    assert all((g == 0).all() for g in torch.autograd.grad(value, (hidden, weight, bias)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    hidden, weight, _, target = layer((64,), 16, 40)
    half = hidden.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = linear_cross_entropy(half, weight, target)  # weights in float32, as under autocast
    assert value.dtype == torch.float32
    wanted = naive(hidden, weight, target, None, 0.0)
    torch.testing.assert_close(value, wanted, rtol=2e-2, atol=2e-2)
    got = torch.autograd.grad(value, (half, weight))
    assert [g.dtype for g in got] == [dtype, torch.float32]
    assert gap(got, torch.autograd.grad(wanted, (hidden, weight))) < 3e-2


def test_autocast_changes_nothing() -> None:
    hidden, weight, bias, target = layer()
    plain = linear_cross_entropy(hidden, weight, target, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = linear_cross_entropy(hidden, weight, target, bias)
    assert torch.equal(cast, plain)
    leaves = (hidden, weight, bias)
    assert all(map(torch.equal, torch.autograd.grad(cast, leaves), torch.autograd.grad(plain, leaves)))


@pytest.mark.filterwarnings("ignore:.*not a leaf:UserWarning")  # what torch's compiler does itself
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_it_runs_beside_a_compiled_graph() -> None:
    torch._dynamo.reset()
    hidden, weight, _, target = layer()
    compiled = torch.compile(lambda h, w: 2 * linear_cross_entropy(h.tanh(), w, target), backend="aot_eager")
    got = torch.autograd.grad(compiled(hidden, weight), (hidden, weight))
    wanted = torch.autograd.grad(2 * naive(hidden.tanh(), weight, target, None, 0.0), (hidden, weight))
    assert gap(got, wanted) < 1e-5


def test_what_does_not_fit_is_said() -> None:
    hidden, weight, bias, target = layer()
    with pytest.raises(InputError, match="do not match"):
        linear_cross_entropy(hidden, weight, target[:, 1:])
    with pytest.raises(InputError, match=r"smoothing is 1\.5"):
        linear_cross_entropy(hidden, weight, target, smoothing=1.5)


IDS = torch.tensor([[START, 7, 8, END, PAD, PAD], [START, 9, END, PAD, PAD, PAD], [START, 4, 5, 6, 7, END]])


def test_each_word_from_the_words_before() -> None:
    batch = autoregressive_inputs(IDS, pad=PAD)
    assert batch.inputs_BT.tolist() == IDS[:, :-1].tolist()
    assert batch.targets_BT[0].tolist() == [7, 8, END, IGNORE, IGNORE]
    assert batch.targets_BT[2].tolist() == [4, 5, 6, 7, END]
    assert not batch.parallel_B.any()
    assert batch.attention_mask()[1, 0].tolist() == torch.ones(5, 5).tril().bool().tolist()


@pytest.mark.parametrize(("share", "rows"), [(0.0, 0), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_a_share_is_predicted_all_at_once(share: float, rows: int) -> None:
    ids = IDS[torch.arange(8) % 3]
    batch = cappa_inputs(ids, share, torch.Generator().manual_seed(1), mask=MASK, pad=PAD)
    assert int(batch.parallel_B.sum()) == rows
    assert (batch.inputs_BT[batch.parallel_B] == MASK).all(), "padding too: the length must not leak"
    plain = autoregressive_inputs(ids, pad=PAD)
    assert torch.equal(batch.inputs_BT[~batch.parallel_B], plain.inputs_BT[~batch.parallel_B])
    assert torch.equal(batch.targets_BT, plain.targets_BT)
    seen_BTT = batch.attention_mask()[:, 0]
    assert seen_BTT[batch.parallel_B].all()
    assert not seen_BTT[~batch.parallel_B][:, 0, 1:].any()


def test_the_draw_is_the_generators() -> None:
    ids = IDS[torch.arange(32) % 3]
    one, same, other = (
        cappa_inputs(ids, 0.5, torch.Generator().manual_seed(seed), mask=MASK, pad=PAD).parallel_B for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_wrong_shares_and_masks_are_said() -> None:
    with pytest.raises(InputError, match="parallel prediction"):
        cappa_inputs(IDS, 1.2, mask=MASK, pad=PAD)
    with pytest.raises(InputError, match="both have the id"):
        cappa_inputs(IDS, 0.5, mask=PAD, pad=PAD)
    with pytest.raises(InputError, match="nothing to predict"):
        autoregressive_inputs(IDS[:, :1], pad=PAD)
