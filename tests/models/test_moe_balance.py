"""Load balancing: the sign rule, counts over ranks, and the load with and without balancing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.support.ranks import run_ranks
from torch import Tensor, distributed, nn

from clerestory.core.errors import ConfigError
from clerestory.models.moe import LossWeights, MixtureOfExperts
from clerestory.models.moe.balancing import ExpertLoad, pop_counts, rebalance
from clerestory.models.moe.losses import switch_loss, z_loss

WIDTH, EXPERTS, TOP_K, BATCH, TOKENS = 16, 8, 2, 8, 50


def test_the_bias_moves_against_the_load_by_the_sign_alone() -> None:
    moe = MixtureOfExperts(8, 8, 4, 2, balance_with_bias=True)
    moe.counts_E.copy_(torch.tensor([900, 50, 25, 25]))
    loads = rebalance(moe, update_speed=0.1)
    assert loads[""].counts == (900, 50, 25, 25)
    assert loads[""].max_over_mean == pytest.approx(3.6)
    assert moe.expert_bias_E is not None
    torch.testing.assert_close(moe.expert_bias_E, torch.tensor([-0.15, 0.05, 0.05, 0.05]))
    assert not moe.counts_E.any()
    before = moe.expert_bias_E.clone()
    rebalance(moe, update_speed=0.1)  # nothing was counted: nothing moves
    torch.testing.assert_close(moe.expert_bias_E, before)


def test_small_steps_survive_a_model_in_half_precision() -> None:
    moe = MixtureOfExperts(8, 8, 4, 2, balance_with_bias=True)
    moe.expert_bias_E = torch.full((4,), 0.5, dtype=torch.bfloat16)  # as a file loaded in bf16 brings it
    moe.counts_E.copy_(torch.tensor([9, 1, 1, 1]))
    rebalance(moe, update_speed=1e-4)
    torch.testing.assert_close(moe.expert_bias_E, torch.tensor([-1.5e-4, 5e-5, 5e-5, 5e-5]), atol=1e-7, rtol=0)
    with torch.device("meta"):
        empty = MixtureOfExperts(8, 8, 4, 2, balance_with_bias=True)
    half = empty.to_empty(device="cpu").bfloat16()
    assert half.expert_bias_E is not None
    assert half.expert_bias_E.dtype == torch.float32


def test_a_load_names_the_dead() -> None:
    assert ExpertLoad((500, 500, 4, 0)).dead == (3,)
    assert ExpertLoad((0, 0)).dead == ()
    assert ExpertLoad((0, 0)).max_over_mean == 1.0
    assert ExpertLoad((0, 8)).max_over_mean == 2.0


def test_a_model_without_mixtures_has_no_counts() -> None:
    assert rebalance(nn.Linear(2, 2)) == {}


def test_switch_loss_is_the_formula() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    expected = 3 * ((1.0 * 0.65) + 0 + 0)
    assert switch_loss(p, torch.tensor([2, 0, 0])).item() == pytest.approx(expected)


def test_z_loss_is_the_formula() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    expected = (math.log(2) ** 2 + math.log(math.e + math.e**2) ** 2) / 2
    assert z_loss(logits).item() == pytest.approx(expected)


def test_losses_that_would_reward_imbalance_are_refused() -> None:
    for name in ("switch", "z"):
        with pytest.raises(ConfigError, match=f"{name} loss is negative"):
            LossWeights(**{name: -1.0})


def batch(step: int) -> Tensor:
    """Tokens with a strong common direction, which a router without balancing sends to few experts."""
    random = torch.Generator().manual_seed(step)
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(77))
    return torch.randn(BATCH, TOKENS, WIDTH, generator=random) + direction


def trained(seed: int, expert_bias: bool, losses: LossWeights, steps: int = 400) -> MixtureOfExperts:
    """A mixture that is fitted to a random function of its tokens for a while."""
    torch.manual_seed(seed)
    moe = MixtureOfExperts(WIDTH, 8, EXPERTS, TOP_K, kind="swiglu", balance_with_bias=expert_bias, losses=losses)
    teacher = torch.randn(WIDTH, WIDTH) / WIDTH**0.5
    optimizer = torch.optim.Adam(moe.parameters(), 1e-2)
    for step in range(steps):
        x = batch(step)
        y, loss = moe(x)
        optimizer.zero_grad()
        ((y - torch.tanh(x @ teacher)).square().mean() + 0.1 * loss).backward()
        optimizer.step()
        rebalance(moe, update_speed=0.01 if step < steps // 2 else 0.001)
    return moe


@torch.no_grad()
def load_of(moe: MixtureOfExperts) -> ExpertLoad:
    """The load on new tokens."""
    chosen = [moe.eval().route(batch(step).flatten(0, 1)).experts_NK for step in range(10_000, 10_050)]
    return ExpertLoad(tuple(torch.bincount(torch.cat(chosen).flatten(), minlength=EXPERTS).tolist()))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("expert_bias", "losses"),
    [(True, LossWeights(switch=0.0)), (False, LossWeights(switch=1.0)), (True, LossWeights(switch=1.0))],
    ids=["bias", "loss", "both"],
)
def test_each_way_of_balancing_shares_the_load(seed: int, expert_bias: bool, losses: LossWeights) -> None:
    load = load_of(trained(seed, expert_bias, losses))
    assert load.max_over_mean <= 1.25
    assert not load.dead


@pytest.mark.parametrize("seed", [0, 1])
def test_without_balancing_the_load_is_uneven(seed: int) -> None:
    assert load_of(trained(seed, False, LossWeights(switch=0.0))).max_over_mean > 1.5


def rebalance_rank(folder: Path) -> None:
    """One of two ranks: writes the counts of both and its own biases."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    moe = nn.Sequential(*(MixtureOfExperts(4, 4, n, 1, balance_with_bias=True) for n in (3, 2)))
    for layer, counts in zip(moe, (([9, 1, 0], [0, 2, 9]), ([5, 1], [0, 6])), strict=True):
        layer.counts_E.copy_(torch.tensor(counts[rank]))
    loads = rebalance(moe, 0.3)
    biases = [round(float(b), 3) for layer in moe for b in layer.expert_bias_E]
    (folder / str(rank)).write_text(f"{[loads[n].counts for n in '01']} {biases}", encoding="utf-8")
    distributed.destroy_process_group()


def test_two_ranks_add_up_their_counts_and_keep_one_bias(tmp_path: Path) -> None:
    run_ranks(2, rebalance_rank, tmp_path)
    said = [(tmp_path / rank).read_text(encoding="utf-8") for rank in "01"]
    assert said[0] == said[1] == "[(9, 3, 9), (5, 7)] [-0.2, 0.4, -0.2, 0.3, -0.3]"


def test_counts_of_micro_batches_add_up_until_they_are_taken() -> None:
    moe = MixtureOfExperts(8, 8, 4, 2).train()
    for _ in range(3):
        moe(torch.randn(5, 8))
    assert pop_counts(moe)[""].sum() == 30
    assert pop_counts(moe)[""].sum() == 0
