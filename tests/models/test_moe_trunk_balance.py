"""A shared trunk learns pairs of 49 image tokens and 2 words: even load, and both modalities keep their experts."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.shapes import COLOURS, SHAPES, shapes
from torch import Tensor
from torch.nn import functional as F

from clerestory.models.moe import LossWeights
from clerestory.models.moe.balancing import rebalance
from clerestory.models.moe.expert_report import ExpertCard, report_card
from clerestory.models.shared_trunk import SharedTrunk, TrunkConfig

SIDE, BATCH, STEPS, KEPT = 28, 16, 150, 4
WORDS = {word: i + 1 for i, word in enumerate([*COLOURS, *SHAPES])}
SIZES = TrunkConfig(
    image_size=SIDE, stem_channels=(8, 16), vocab_size=len(WORDS) + 1, max_tokens=2, width=32, layers=1, heads=2,
    mlp_ratio=2, embed_dim=32, experts=8, experts_per_token=2, every=1,
    losses=LossWeights(switch=0.0, z=0.01, local=0.1, spread=4.0, least=7.5),
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    """Coloured shapes in three sizes as ``(40, 3, …)``, and their two words."""
    data = shapes()
    concepts = sorted({s.concept for s in data})
    rows = [[s for s in data if s.concept == concept] for concept in concepts]
    pictures = [[_pixels(data.read(s)) for s in row] for row in rows]
    words = [[WORDS[word] for word in row[0].caption.split()] for row in rows]
    return torch.stack([torch.stack(row) for row in pictures]), torch.tensor(words)


def _pixels(png: bytes) -> Tensor:
    small = Image.open(io.BytesIO(png)).resize((SIDE, SIDE))
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)


def trained(pairs: tuple[Tensor, Tensor], seed: int) -> tuple[SharedTrunk, float]:
    """A trunk after a contrastive training, and its last loss."""
    torch.manual_seed(seed)
    trunk, random = SharedTrunk(SIZES).train(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(trunk.parameters())
    pictures, words = pairs
    for step in range(STEPS):
        chosen = torch.randperm(len(words), generator=random)[:BATCH]
        size = torch.randint(pictures.shape[1], (BATCH,), generator=random)
        noise = 0.2 * torch.randn(BATCH, 3, SIDE, SIDE, generator=random)
        out = trunk(pictures[chosen, size] + noise, words[chosen])
        assert out.image_embeds is not None
        assert out.text_embeds is not None
        similar, right = 10 * out.image_embeds @ out.text_embeds.T, torch.arange(BATCH)
        loss = 0.5 * (F.cross_entropy(similar, right) + F.cross_entropy(similar.T, right))
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.zero_grad()
        (loss + 0.3 * out.balance_loss).backward()
        optimizer.step()
        rebalance(trunk, 5e-3 if step < STEPS // 2 else 1e-3)
    return trunk, loss.item()


def card_of(trunk: SharedTrunk, pairs: tuple[Tensor, Tensor]) -> ExpertCard:
    pictures, words = pairs
    batch = {"pixels_BCHW": pictures.flatten(0, 1), "ids_BL": words.repeat_interleave(pictures.shape[1], dim=0)}
    return report_card(trunk, [(batch, {})])


def test_a_trained_trunk_shares_its_work_and_each_modality_keeps_its_experts(pairs: tuple[Tensor, Tensor]) -> None:
    trunk, loss = trained(pairs, seed=0)
    assert loss < 1.0, "16 pairs: guessing costs 2.8"
    card = card_of(trunk, pairs)
    (layer,) = card.layers
    table = card.table("modality", layer)
    assert table.sum(1).tolist() == [120 * 49 * 2, 120 * 2 * 2]
    assert card.max_over_mean(layer) <= 1.25
    assert ((table / table.sum(1, keepdims=True)) >= 0.05).sum(1).min() >= KEPT
    assert not card.dead(layer)
