"""Balance: the sign rule, counts over ranks, and what happens to the rarer modality without the entropy losses."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clerestory.core.errors import ConfigError
from clerestory.models.moe import IMAGE, TEXT, LossWeights, MixtureOfExperts
from clerestory.models.moe.balancing import Load, rebalance, take_counts
from clerestory.models.moe.losses import entropy_losses, switch_loss, z_loss

WIDTH, EXPERTS, TOP_K, BATCH, IMAGE_TOKENS, TEXT_TOKENS, KEPT = 16, 8, 2, 8, 50, 2, 4
# The threshold is on soft gates; the hard choices of two experts keep a little fewer.
LOSSES = LossWeights(switch=0.0, z=0.01, local=1.0, spread=4.0, least=6)


def test_the_bias_moves_against_the_load_by_the_sign_alone() -> None:
    moe = MixtureOfExperts(8, 8, 4, 2, steered=True)
    moe.counts_E.copy_(torch.tensor([900, 50, 25, 25]))
    loads = rebalance(moe, rate=0.1)
    assert loads[""].counts == (900, 50, 25, 25)
    assert loads[""].max_over_mean == pytest.approx(3.6)
    assert moe.bias_E is not None
    torch.testing.assert_close(moe.bias_E, torch.tensor([-0.15, 0.05, 0.05, 0.05]))
    assert not moe.counts_E.any()
    before = moe.bias_E.clone()
    rebalance(moe, rate=0.1)  # nothing was counted: nothing moves
    torch.testing.assert_close(moe.bias_E, before)


def test_small_steps_survive_a_model_in_half_precision() -> None:
    moe = MixtureOfExperts(8, 8, 4, 2, steered=True)
    moe.bias_E = torch.full((4,), 0.5, dtype=torch.bfloat16)  # as a file loaded in bf16 brings it
    moe.counts_E.copy_(torch.tensor([9, 1, 1, 1]))
    rebalance(moe, rate=1e-4)
    torch.testing.assert_close(moe.bias_E, torch.tensor([-1.5e-4, 5e-5, 5e-5, 5e-5]), atol=1e-7, rtol=0)
    with torch.device("meta"):
        empty = MixtureOfExperts(8, 8, 4, 2, steered=True)
    half = empty.to_empty(device="cpu").bfloat16()
    assert half.bias_E is not None
    assert half.bias_E.dtype == torch.float32


def test_a_load_names_the_dead() -> None:
    assert Load((500, 500, 4, 0)).dead == (3,)
    assert Load((0, 0)).dead == ()
    assert Load((0, 0)).max_over_mean == 1.0
    assert Load((0, 8)).max_over_mean == 2.0


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


def test_entropy_losses_are_limoes_for_each_modality() -> None:
    sure, torn = [1.0, 0.0, 0.0, 0.0], [0.25] * 4
    p = torch.tensor([sure, sure, torn, [0.0, 1.0, 0.0, 0.0]]).requires_grad_()
    local, spread = entropy_losses(p, torch.tensor([IMAGE, IMAGE, TEXT, TEXT]), least=3)
    mean = torch.tensor([0.125, 0.625, 0.125, 0.125])
    below = max(0.0, math.log(3) + float((mean * mean.log()).sum()))
    torch.testing.assert_close(local, torch.tensor([0.0, math.log(4) / 2]))
    torch.testing.assert_close(spread, torch.tensor([math.log(3), below]))
    (local.sum() + spread.sum()).backward()
    assert p.grad is not None
    assert torch.isfinite(p.grad).all()
    local, spread = entropy_losses(p.detach()[:2], torch.tensor([IMAGE, IMAGE]), least=3)
    assert local[TEXT] == spread[TEXT] == 0


def test_losses_that_would_reward_imbalance_are_refused() -> None:
    with pytest.raises(ConfigError, match="spread"):
        LossWeights(spread=-1)
    with pytest.raises(ConfigError, match="at least one"):
        LossWeights(least=0.5)


def pairs(step: int) -> tuple[Tensor, Tensor]:
    """50 image and 2 text tokens of each pair; what tells texts apart is small beside what they have in common."""
    random = torch.Generator().manual_seed(step)
    directions = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(77))
    image = torch.randn(BATCH, IMAGE_TOKENS, WIDTH, generator=random) + directions[IMAGE]
    text = 0.5 * torch.randn(BATCH, TEXT_TOKENS, WIDTH, generator=random) + 2 * directions[TEXT]
    modality = torch.tensor([IMAGE] * IMAGE_TOKENS + [TEXT] * TEXT_TOKENS).expand(BATCH, -1)
    return torch.cat([image, text], dim=1), modality


def optimised(seed: int, losses: LossWeights, steps: int = 400) -> MixtureOfExperts:
    """A mixture that learns a random function of its tokens for a while."""
    torch.manual_seed(seed)
    moe = MixtureOfExperts(WIDTH, 8, EXPERTS, TOP_K, kind="swiglu", steered=True, losses=losses)
    teacher = torch.randn(WIDTH, WIDTH) / WIDTH**0.5
    optimizer = torch.optim.Adam(moe.parameters(), 1e-2)
    for step in range(steps):
        x, modality = pairs(step)
        y, loss = moe(x, None, modality)
        optimizer.zero_grad()
        ((y - torch.tanh(x @ teacher)).square().mean() + 0.1 * loss).backward()
        optimizer.step()
        rebalance(moe, rate=0.01 if step < steps // 2 else 0.001)
    return moe


@torch.no_grad()
def balance(moe: MixtureOfExperts) -> tuple[float, dict[str, int]]:
    """Max over mean of the load on fresh tokens, and the experts that do at least 5 % of each modality."""
    moe.eval()
    counts = torch.zeros(2, EXPERTS)
    for step in range(10_000, 10_050):
        x, modality = pairs(step)
        chosen = moe.route(x.flatten(0, 1)).experts_NK
        for m in (IMAGE, TEXT):
            counts[m] += torch.bincount(chosen[modality.flatten() == m].flatten(), minlength=EXPERTS)
    share = counts / counts.sum(1, keepdim=True)
    load = counts.sum(0)
    return float(load.max() / load.mean()), {
        name: int((share[m] >= 0.05).sum()) for name, m in (("image", IMAGE), ("text", TEXT))
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_fifty_image_and_two_text_tokens_are_balanced_and_both_keep_their_experts(seed: int) -> None:
    ratio, kept = balance(optimised(seed, LOSSES))
    assert ratio <= 1.25
    assert min(kept.values()) >= KEPT


@pytest.mark.parametrize("seed", [0, 1])
def test_without_the_entropy_losses_text_loses_its_experts(seed: int) -> None:
    _, kept = balance(optimised(seed, replace(LOSSES, local=0.0, spread=0.0)))
    assert kept["text"] < KEPT


TWO_RANKS = """
import sys, torch
from torch import distributed
from clerestory.models.moe import MixtureOfExperts
from clerestory.models.moe.balancing import rebalance
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
moe = torch.nn.Sequential(MixtureOfExperts(4, 4, 3, 1, steered=True), MixtureOfExperts(4, 4, 2, 1, steered=True))
moe[0].counts_E.copy_(torch.tensor([[9, 1, 0], [0, 2, 9]][rank]))
moe[1].counts_E.copy_(torch.tensor([[5, 1], [0, 6]][rank]))
loads = rebalance(moe, 0.3)
print([loads[n].counts for n in "01"], [round(float(b), 3) for m in moe for b in m.bias_E])
distributed.destroy_process_group()
"""


def test_two_ranks_add_up_their_counts_and_keep_one_bias(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO_RANKS]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in ranks]
    assert said[0] == said[1] == "[(9, 3, 9), (5, 7)] [-0.2, 0.4, -0.2, 0.3, -0.3]"


def test_counts_of_micro_batches_add_up_until_they_are_taken() -> None:
    moe = MixtureOfExperts(8, 8, 4, 2).train()
    for _ in range(3):
        moe(torch.randn(5, 8))
    assert take_counts(moe)[""].sum() == 30
    assert take_counts(moe)[""].sum() == 0
