"""What the model is told: pictures belong to their texts, at every nested width, and captions follow from pictures.

Shape suffixes: B pictures of the batch, N texts of the bank, E shared space, L caption positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.models.projection import prefix

FAR = -1e4


def contrastive(
    images_BE: Tensor,
    texts_BE: Tensor,
    bank_NE: Tensor,
    own_B: Tensor,
    dims: Sequence[int],
    temperature: float,
    nested: float,
) -> Tensor:
    """Softmax contrastive loss, both directions, at full width and (weighted) over the nested prefixes.

    The text tower is locked, so all training captions' embeddings are at hand at no cost: a picture must find its
    text among the batch's texts *and* all captions of the training set, not among a batch's alone.

    Args:
        images_BE: unit rows.
        texts_BE: each picture's own text, unit rows.
        bank_NE: all distinct training captions, unit rows.
        own_B: the bank's row of each picture's own caption, which is no wrong answer.
        dims: the nested widths, the last one being E.
        temperature: of the softmax.
        nested: weight of the mean over the shorter widths.
    """
    full = _both_ways(images_BE, texts_BE, bank_NE, own_B, temperature)
    shorter = [
        _both_ways(prefix(images_BE, d), prefix(texts_BE, d), prefix(bank_NE, d), own_B, temperature) for d in dims[:-1]
    ]
    if not shorter or nested == 0:
        return full
    return full + nested * torch.stack(shorter).mean()


def _both_ways(images_BE: Tensor, texts_BE: Tensor, bank_NE: Tensor, own_B: Tensor, temperature: float) -> Tensor:
    batch = len(images_BE)
    target_B = torch.arange(batch)
    similar_BB = images_BE @ texts_BE.T / temperature
    # Two pictures with one caption are no wrong answers for one another.
    same_BB = (own_B[:, None] == own_B[None]) & ~torch.eye(batch, dtype=torch.bool)
    similar_BB = similar_BB.masked_fill(same_BB, FAR)
    bank_BN = (images_BE @ bank_NE.T / temperature).scatter(1, own_B[:, None], FAR)
    to_text = F.cross_entropy(torch.cat([similar_BB, bank_BN], dim=1), target_B)
    return 0.5 * (to_text + F.cross_entropy(similar_BB.T, target_B))


def captioning(logits_BLV: Tensor, ids_BL: Tensor, pad: int, smoothing: float = 0.1) -> Tensor:
    """Mean cross-entropy of the next word; logits at ``l`` predict word ``l + 1``; padding is left out."""
    return F.cross_entropy(
        logits_BLV[:, :-1].flatten(0, 1), ids_BL[:, 1:].flatten(), ignore_index=pad, label_smoothing=smoothing
    )
