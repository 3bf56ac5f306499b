"""Upcycling: another form of the same function."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.test_moe import tokens
from tests.support.tiny_model import tiny_config

from clerestory.core.errors import ConfigError
from clerestory.models import ClerestoryModel
from clerestory.models.moe import Mlp
from clerestory.models.moe.upcycling import upcycle
from clerestory.models.upcycle import upcycle_model

IDENTICAL = 1e-6


def dense(kind: str, bias: bool) -> Mlp:
    torch.manual_seed(3)
    return Mlp(16, 32, kind, bias)


@pytest.mark.parametrize("kind", ["gelu", "swiglu"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (4, 4), (3, 1)])
def test_an_upcycled_mlp_is_the_same_function(
    kind: str, bias: bool, split: bool, gate: str, experts: int, top_k: int
) -> None:
    mlp, x = dense(kind, bias), tokens(200, 16)
    moe = upcycle(mlp, experts, top_k, split=split, gate=gate, generator=torch.Generator().manual_seed(1))
    assert moe.hidden == (32 // top_k if split else 32)
    assert (moe(x)[0] - mlp(x)).abs().max() <= IDENTICAL
    used = moe.route(x).experts_NK.unique()
    assert len(used) == experts  # the router does choose among them


def test_every_expert_and_the_router_learn_from_there() -> None:
    moe = upcycle(dense("gelu", True), 4, 2, split=True, generator=torch.Generator().manual_seed(1))
    x = tokens(64, 16)
    (moe(x)[0] - torch.roll(x, 1, dims=1)).square().mean().backward()
    for name, p in moe.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name
    assert moe.down_EDF.grad is not None
    assert all(g.abs().max() > 0 for g in moe.down_EDF.grad)


def test_noise_is_the_only_thing_that_changes_the_function() -> None:
    mlp, x = dense("gelu", False), tokens(50, 16)
    noisy = upcycle(mlp, 4, 2, noise=0.1, generator=torch.Generator().manual_seed(1))
    assert (noisy(x)[0] - mlp(x)).abs().max() > 100 * IDENTICAL
    assert not torch.equal(noisy.down_EDF[0], noisy.down_EDF[1])


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 experts in groups of 2"):
        upcycle(dense("gelu", False), 3, 2, split=True)


@torch.no_grad()
def scrambled(model: ClerestoryModel) -> ClerestoryModel:
    """A model whose weights look trained: nothing is zero."""
    random = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.add_(torch.randn(p.shape, generator=random) * 0.05)
    return model.eval()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_an_upcycled_model_starts_as_the_dense_one(split: bool, balance: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = scrambled(ClerestoryModel(tiny_config()))
    made = upcycle_model(model, 4, 2, split=split, decoder_experts=4, expert_balance=balance)
    pixels, ids = tokens(3, 3, 32, 32), torch.randint(4, 8, (3, 6))
    ids[1, 4:] = model.config.pad_token_id
    before, after = model(pixels, caption_ids=ids), made(pixels, caption_ids=ids)
    kept = ids != model.config.pad_token_id
    assert (before.image_embeds - after.image_embeds).abs().max() <= IDENTICAL
    assert (before.caption_logits - after.caption_logits)[kept].abs().max() <= 10 * IDENTICAL  # logits, not unit rows
    assert before.balance_loss is None
    assert after.balance_loss is not None
    made.save_pretrained(tmp_path)
    again = ClerestoryModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again(pixels).image_embeds, after.image_embeds)
    assert all(not buffer.any() for name, buffer in again.named_buffers() if name.endswith("counts_E"))
    with pytest.raises(ConfigError, match="already"):
        upcycle_model(made, 4)
