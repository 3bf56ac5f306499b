"""Mixture of experts: every path against the naive loop over tokens, under adversarial routing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from clerestory.core.errors import ConfigError, NotFound
from clerestory.models.moe import LossWeights, MixtureOfExperts, experts, grouped_linear, route
from clerestory.models.moe.dispatch import combine, dispatch, sort_by_expert
from clerestory.models.moe.experts import EXPERT_KINDS, weighted_activation
from clerestory.models.moe.grouped import GroupedLinear, runs_natively


def filled(module: MixtureOfExperts, seed: int = 0) -> MixtureOfExperts:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.3)
    return module


def tokens(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def one_expert(moe: MixtureOfExperts, e: int, x: Tensor) -> Tensor:
    h = moe.first_EGD[e] @ x + (moe.first_bias_EG[e] if moe.has_bias else 0)
    if moe.has_gate:
        gate, up = h.chunk(2)
        h = F.silu(gate) * up
    else:
        h = F.gelu(h)
    return moe.down_EDF[e] @ h + (moe.down_bias_ED[e] if moe.has_bias else 0)


def naive(moe: MixtureOfExperts, x_ND: Tensor, experts_NK: Tensor, weights_NK: Tensor) -> Tensor:
    rows = [
        sum(weights_NK[n, k] * one_expert(moe, int(experts_NK[n, k]), x_ND[n]) for k in range(experts_NK.shape[1]))
        for n in range(len(x_ND))
    ]
    return torch.stack(rows) if rows else x_ND.new_zeros(x_ND.shape)


def adversarial(kind: str, n: int, experts: int, top_k: int) -> Tensor:
    """Choices that a bad day could bring; the choices of one token are different experts."""
    if kind == "one":  # every first choice is the last expert
        rest = torch.arange(top_k - 1).expand(n, -1)
        return torch.cat([torch.full((n, 1), experts - 1), rest], dim=1)
    if kind == "empty":  # only every other expert
        return torch.arange(top_k).mul(2).expand(n, -1).contiguous()
    random = torch.Generator().manual_seed(5)
    return torch.stack([torch.randperm(experts, generator=random)[:top_k] for _ in range(n)])


@pytest.fixture(params=[experts.FUSED_MIN_ELEMENTS, 0], ids=["few", "many"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of the activation: that of few numbers, and that of many."""
    monkeypatch.setattr(experts, "FUSED_MIN_ELEMENTS", request.param)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", EXPERT_KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", ["one", "empty", "random"])
@pytest.mark.parametrize(("n", "top_k"), [(33, 2), (1, 2), (7, 1)])
def test_every_token_gets_exactly_its_experts(kind: str, bias: bool, case: str, n: int, top_k: int) -> None:
    moe = filled(MixtureOfExperts(8, 12, 6, top_k, kind=kind, bias=bias))
    choices = adversarial(case, n, 6, top_k)
    x, weights = tokens(n, 8).requires_grad_(), torch.rand(n, top_k, generator=torch.Generator().manual_seed(2))
    weights.requires_grad_()
    upstream, leaves = tokens(n, 8, seed=9), [x, weights, *[p for p in moe.parameters() if p is not moe.gate.weight]]
    got, expected = moe.apply_experts(x, choices, weights), naive(moe, x, choices, weights)
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(
        torch.autograd.grad(got, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", EXPERT_KINDS)
def test_no_token_at_all_gives_nothing_and_zero_gradients(kind: str) -> None:
    moe = filled(MixtureOfExperts(8, 12, 4, 2, kind=kind, bias=True, shared=1, losses=LossWeights(1, 1)))
    x = tokens(0, 8).requires_grad_()
    y, loss = moe(x)
    assert y.shape == (0, 8)
    assert loss.item() == 0
    (y.sum() + loss).backward()
    for name, p in moe.named_parameters():
        assert p.grad is not None, name
        assert not p.grad.any()


def test_padding_visits_no_expert_counts_nowhere_and_teaches_nothing() -> None:
    losses = LossWeights(switch=1, z=1)
    moe = filled(MixtureOfExperts(8, 12, 4, 2, kind="swiglu", shared=1, losses=losses)).train()
    x, valid = tokens(3, 5, 8), torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    y, loss = moe(x, valid)
    counts = moe.counts_E.clone()
    moe.counts_E.zero_()
    alone, loss_alone = moe(x[valid])
    torch.testing.assert_close(y[valid], alone)
    assert not y[~valid].any()
    torch.testing.assert_close(loss, loss_alone)
    assert counts.sum() == 2 * valid.sum()
    assert torch.equal(counts, moe.counts_E)
    wild = torch.where(valid[..., None], x, torch.full_like(x, 1e4))
    again, loss_again = moe(wild, valid)
    assert torch.equal(again[valid], y[valid])
    assert torch.equal(loss_again, loss)
    nothing, loss_of_nothing = moe(x, torch.zeros(3, 5, dtype=torch.bool))
    assert not nothing.any()
    assert loss_of_nothing.item() == 0


@pytest.mark.parametrize("ends", [[4, 4, 7, 9], [9, 9, 9, 9], [0, 0, 0, 9], [1, 2, 3, 9]])
def test_the_fallback_passes_gradcheck_in_double_precision(ends: list[int]) -> None:
    x, w = tokens(9, 3, dtype=torch.float64).requires_grad_(), tokens(4, 5, 3, seed=2, dtype=torch.float64)
    w.requires_grad_()
    bias = tokens(4, 5, seed=3, dtype=torch.float64).requires_grad_()
    offsets = torch.tensor(ends, dtype=torch.int32)
    assert not runs_natively(x, w)
    assert gradcheck(lambda x, w, b: grouped_linear(x, w, offsets, b), (x, w, bias))


@pytest.mark.usefixtures("few")
def test_a_whole_mixture_passes_gradcheck_in_double_precision() -> None:
    losses = LossWeights(switch=1, z=1)
    moe = filled(MixtureOfExperts(4, 3, 4, 2, kind="swiglu", gate="sigmoid", losses=losses).double())
    x = tokens(6, 4, dtype=torch.float64).requires_grad_()
    assert gradcheck(moe, (x,))


@pytest.mark.usefixtures("few")
def test_weighted_activation_and_dispatch_pass_gradcheck() -> None:
    first, weights = tokens(5, 6, dtype=torch.float64).requires_grad_(), tokens(5, seed=4, dtype=torch.float64)
    weights.requires_grad_()
    assert gradcheck(lambda a, b: weighted_activation(a, b, True), (first, weights))
    assert gradcheck(lambda a, b: weighted_activation(a, b, False), (first, weights))
    order = sort_by_expert(torch.tensor([[2, 0], [0, 1], [2, 1]]), 4)
    x = tokens(3, 2, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: dispatch(x, order), (x,))
    y = tokens(6, 2, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda y: combine(y, order), (y,))
    assert order.offsets_E.tolist() == [2, 4, 6, 6]


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped_mm")
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_both_ways_of_the_grouped_product_agree(kind: torch.dtype) -> None:
    x, w = tokens(20, 16).to(kind).requires_grad_(), tokens(3, 24, 16, seed=2).to(kind).requires_grad_()
    offsets, upstream = torch.tensor([5, 5, 20]), tokens(20, 24, seed=3).to(kind)
    assert runs_natively(x, w)
    native = grouped_linear(x, w, offsets)
    own = GroupedLinear.apply(x, w, offsets)
    torch.testing.assert_close(native, own)
    for a, b in zip(
        torch.autograd.grad(native, [x, w], upstream), torch.autograd.grad(own, [x, w], upstream), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_gradient_of_one_repeated_number_is_accepted() -> None:
    x, w = tokens(20, 16).requires_grad_(), tokens(3, 24, 16, seed=2)
    assert runs_natively(x, w)
    grouped_linear(x, w, torch.tensor([5, 5, 20])).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, w.sum(1)[torch.tensor([0] * 5 + [2] * 15)])


def test_widths_grouped_mm_refuses_take_the_fallback() -> None:
    x, w = tokens(4, 5), tokens(2, 3, 5, seed=2)
    assert not runs_natively(x, w)
    got = grouped_linear(x, w, torch.tensor([1, 4]))
    torch.testing.assert_close(got, torch.cat([x[:1] @ w[0].T, x[1:] @ w[1].T]))
    with pytest.raises(ValueError, match="end at row 3"):
        grouped_linear(x, w, torch.tensor([1, 3]))


def test_the_fallback_allocates_one_gradient_for_all_matrices() -> None:
    """A loop over ``w[e]`` would add up E gradients of full size; the Function makes one."""
    x, w = tokens(8, 5).requires_grad_(), tokens(64, 7, 5, seed=2).requires_grad_()
    y = grouped_linear(x, w, (torch.arange(64) + 1) // 8)
    with torch.profiler.profile(profile_memory=True) as profile:
        y.sum().backward()
    allocated = sum(e.self_cpu_memory_usage for e in profile.events() if e.self_cpu_memory_usage > 0)
    assert allocated < 2 * w.numel() * w.element_size()


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_the_bias_chooses_but_does_not_count(gate: str) -> None:
    x, w = tokens(40, 8), tokens(5, 8, seed=2)
    plain = route(x, w, 2, gate)
    bias = torch.tensor([0.0, 0.0, 10.0, 0.0, 0.0])
    biased = route(x, w, 2, gate, bias)
    assert (biased.experts_NK == 2).any(dim=1).all()
    scores = (x @ w.T).softmax(-1) if gate == "softmax" else (x @ w.T).sigmoid()
    chosen = scores.gather(1, biased.experts_NK)
    torch.testing.assert_close(biased.weights_NK, chosen / chosen.sum(1, keepdim=True))
    torch.testing.assert_close(biased.probabilities_NE, plain.probabilities_NE)
    torch.testing.assert_close(plain.probabilities_NE.sum(1), torch.ones(40))
    assert torch.equal(plain.experts_NK, scores.topk(2).indices)


def test_routing_is_in_fp32_under_autocast_and_for_bf16_tokens() -> None:
    x, w = tokens(40, 8), tokens(5, 8, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = route(x, w, 2)
    assert cast.logits_NE.dtype == torch.float32
    assert torch.equal(cast.logits_NE, route(x, w, 2).logits_NE)
    assert route(x.bfloat16(), w.bfloat16(), 2).weights_NK.dtype == torch.float32


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", EXPERT_KINDS)
def test_bf16_by_autocast_and_by_cast_stay_near_fp32(kind: str) -> None:
    moe = filled(MixtureOfExperts(16, 32, 4, 2, kind=kind, bias=True, shared=1, balance_with_bias=True))
    x = tokens(30, 16).requires_grad_()
    expected, _ = moe(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, loss = moe(x)
    assert loss.dtype == torch.float32
    assert (got.float() - expected).abs().max() < 0.05 * expected.abs().max()
    got.float().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in moe.parameters())
    moe.expert_bias_E += 0.001
    half = moe.bfloat16()
    assert half.expert_bias_E is not None
    assert half.expert_bias_E.dtype == torch.float32
    assert half.expert_bias_E[0] == torch.tensor(0.001)
    y, _ = half(x.detach().bfloat16())
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", EXPERT_KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("backend", ["grouped_mm", "batched_mm"])
def test_hugging_face_back_ends_run_these_weights(kind: str, bias: bool, backend: str) -> None:
    moe = filled(MixtureOfExperts(16, 32, 4, 2, kind=kind, bias=bias))
    x = tokens(30, 16)
    own, _ = moe(x)
    moe.backend = backend
    theirs, _ = moe(x)
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


def test_an_unknown_back_end_is_named_with_its_neighbours() -> None:
    moe = MixtureOfExperts(8, 8, 2, 1)
    moe.backend = "grouped_m"
    with pytest.raises(NotFound, match="grouped_mm"):
        moe(tokens(3, 8))
    with pytest.raises(NotFound, match="swiglu"):
        MixtureOfExperts(8, 8, 2, 1, kind="swigl")
    with pytest.raises(ConfigError, match="top_k is 3, but there are 2 experts"):
        MixtureOfExperts(8, 8, 2, 3)


def test_mixtral_experts_with_these_weights_give_the_same() -> None:
    moe = filled(MixtureOfExperts(16, 32, 4, 2, kind="swiglu"))
    config = MixtralConfig(hidden_size=16, intermediate_size=32, num_local_experts=4, hidden_act="silu")
    config._experts_implementation = "eager"
    theirs, x = MixtralExperts(config), tokens(30, 16)
    theirs.gate_up_proj, theirs.down_proj = moe.gate_up_proj, moe.down_proj
    routing = moe.route(x)
    torch.testing.assert_close(moe(x)[0], theirs(x, routing.experts_NK, routing.weights_NK), rtol=1e-4, atol=1e-5)


def test_shared_experts_are_added_for_every_token() -> None:
    moe = filled(MixtureOfExperts(8, 12, 4, 2, kind="swiglu", shared=2))
    x = tokens(9, 8)
    routing = moe.route(x)
    alone = moe.apply_experts(x, routing.experts_NK, routing.weights_NK)
    assert moe.shared is not None
    assert moe.shared.down.in_features == 24
    torch.testing.assert_close(moe(x)[0], alone + moe.shared(x))


def test_scale_is_what_gate_values_sum_to() -> None:
    routing = filled(MixtureOfExperts(8, 12, 4, 2, gate="sigmoid", scale=2.5)).route(tokens(9, 8))
    torch.testing.assert_close(routing.weights_NK.sum(1), torch.full((9,), 2.5))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_counts_each_token_once(reentrant: bool) -> None:
    moe = filled(MixtureOfExperts(8, 12, 4, 2)).train()
    x = tokens(9, 8).requires_grad_()
    y, loss = checkpoint(moe, x, use_reentrant=reentrant)
    (y.sum() + loss).backward()
    assert moe.counts_E.sum() == 18
    grad = moe.gate.weight.grad
    moe.zero_grad()
    plain, plain_loss = moe(x)
    (plain.sum() + plain_loss).backward()
    torch.testing.assert_close(moe.gate.weight.grad, grad)
    assert moe.counts_E.sum() == 36
    moe.eval()(x)
    assert moe.counts_E.sum() == 36


def test_two_runs_are_bit_identical() -> None:
    moe, x = filled(MixtureOfExperts(16, 32, 8, 2, kind="swiglu")), tokens(50, 16)
    grads = []
    for _ in range(2):
        moe.zero_grad()
        y, loss = moe(x)
        (y.square().sum() + loss).backward()
        grads.append([p.grad.clone() for p in moe.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_fresh_mixture_is_usable_and_its_counts_are_not_saved() -> None:
    moe = MixtureOfExperts(8, 12, 4, 2, balance_with_bias=True)
    y, loss = moe(tokens(5, 8))
    assert torch.isfinite(y).all()
    assert math.isfinite(loss.item())
    assert set(moe.state_dict()) == {"gate.weight", "up_EFD", "down_EDF", "expert_bias_E"}
