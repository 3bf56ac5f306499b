"""The shared trunk: modalities do not leak into one another, padding into nothing; and it learns pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import ConfigError, DataError
from clerestory.models.moe import mixtures
from clerestory.models.moe.balancing import rebalance
from clerestory.models.moe.expert_report import report_card
from clerestory.models.shared_trunk import SharedTrunk, TrunkConfig

TINY = TrunkConfig(
    image_size=16, stem_channels=(8, 16), vocab_size=20, max_tokens=6, width=32, layers=2, heads=2, mlp_ratio=2,
    embed_dim=16, experts=4, experts_per_token=2, every=1,
)  # fmt: skip


def example(n: int = 6) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 20, (n, 6), generator=random)
    ids[:, 4:] = 0
    ids[0, 1:] = 0
    return torch.randn(n, 3, 16, 16, generator=random), ids


@pytest.mark.parametrize("shared", [True, False])
def test_a_pair_gives_what_each_half_gives_alone(shared: bool) -> None:
    torch.manual_seed(0)
    trunk, (pixels, ids) = SharedTrunk(replace(TINY, shared=shared)).eval(), example()
    both, images, texts = trunk(pixels, ids), trunk(pixels), trunk(ids_BL=ids)
    torch.testing.assert_close(both.image_embeds, images.image_embeds)
    torch.testing.assert_close(both.text_embeds, texts.text_embeds)
    assert images.text_embeds is None
    assert texts.image_embeds is None
    torch.testing.assert_close(both.image_embeds.norm(dim=1), torch.ones(6))


def test_padding_changes_nothing() -> None:
    trunk, (_, ids) = SharedTrunk(TINY).eval(), example()
    torch.testing.assert_close(trunk(ids_BL=ids).text_embeds, trunk(ids_BL=ids[:, :4]).text_embeds)
    empty = torch.zeros(2, 3, dtype=torch.int64)
    assert torch.isfinite(trunk(ids_BL=empty).text_embeds).all()


def test_one_trunk_has_the_experts_of_both_and_two_towers_have_their_own() -> None:
    pixels, ids = example()
    shared, towers = SharedTrunk(TINY), SharedTrunk(replace(TINY, shared=False))
    assert len(mixtures(shared)) == 2
    assert len(mixtures(towers)) == 4
    shared.train()(pixels, ids)
    counts = next(iter(mixtures(shared).values())).counts_E
    assert counts.sum() == 2 * (6 * 16 + int((ids != 0).sum()))
    card = report_card(towers, [({"pixels_BCHW": pixels, "ids_BL": ids}, {})])
    assert card.table("modality", "blocks.0.mlp").sum(1).tolist() == [2 * 6 * 16, 0]
    assert card.table("modality", "text_blocks.0.mlp").sum(1).tolist() == [0, 2 * int((ids != 0).sum())]


def test_every_other_block_has_experts_and_the_last_always_has() -> None:
    assert list(mixtures(SharedTrunk(replace(TINY, layers=3, every=2)))) == ["blocks.0.mlp", "blocks.2.mlp"]
    assert not mixtures(SharedTrunk(replace(TINY, experts=0)))
    assert SharedTrunk(replace(TINY, experts=0))(*example()).balance_loss is None


def test_it_learns_its_pairs() -> None:
    torch.manual_seed(0)
    trunk, (pixels, ids) = SharedTrunk(TINY).train(), example()
    optimizer, losses = torch.optim.Adam(trunk.parameters(), 3e-3), []
    for _ in range(40):
        out = trunk(pixels, ids)
        loss = F.cross_entropy(10 * out.image_embeds @ out.text_embeds.T, torch.arange(6))
        optimizer.zero_grad()
        (loss + 0.01 * out.balance_loss).backward()
        optimizer.step()
        rebalance(trunk)
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(p.grad is not None for p in trunk.parameters())


def test_what_does_not_fit_is_said() -> None:
    trunk, (pixels, ids) = SharedTrunk(TINY), example()
    with pytest.raises(DataError, match="not pairs"):
        trunk(pixels, ids[:2])
    with pytest.raises(DataError, match="neither"):
        trunk()
    with pytest.raises(DataError, match="longer than 6"):
        trunk(ids_BL=torch.ones(1, 7, dtype=torch.int64))
    with pytest.raises(ConfigError, match="heads"):
        replace(TINY, heads=3)
