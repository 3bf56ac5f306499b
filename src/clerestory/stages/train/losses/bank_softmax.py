"""The default contrastive loss: softmax with a bank of training captions as negatives, at every Matryoshka width.

Shape suffixes: B images of this process, A images of all processes, N texts of the bank, E shared space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.models.projection import prefix
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks

MASKED_LOGIT = -1e4


def bank_softmax_loss(
    images_BE: Tensor,
    texts_BE: Tensor,
    bank_NE: Tensor,
    caption_B: Tensor,
    dims: Sequence[int],
    temperature: float,
    nested: float,
    ranks: Ranks = SINGLE,
) -> Tensor:
    """Softmax contrastive loss, both directions, at full width plus the weighted mean over the shorter prefixes.

    The text tower is locked, so the embeddings of all training captions are available at no cost: the negatives of an
    image are the texts of the batch *and* the captions of the training set.

    Args:
        images_BE: unit rows.
        texts_BE: the text of each image, unit rows.
        bank_NE: distinct training captions, unit rows.
        caption_B: the row of each image's caption in the bank, which is not a negative.
        dims: the Matryoshka widths, the last one being E.
        temperature: of the softmax.
        nested: weight of the mean over the shorter widths.
        ranks: the processes that share the batch: negatives come from all of them, positives from this one, and the
            mean over the processes is the loss of the whole batch.
    """
    gathered = ranks.gather(images_BE), ranks.gather(texts_BE), ranks.gather(caption_B)
    positive_B = ranks.gathered_indices(images_BE)
    full = _symmetric(images_BE, texts_BE, bank_NE, caption_B, gathered, positive_B, temperature)
    shorter = [
        _symmetric(
            prefix(images_BE, d),
            prefix(texts_BE, d),
            prefix(bank_NE, d),
            caption_B,
            (prefix(gathered[0], d), prefix(gathered[1], d), gathered[2]),
            positive_B,
            temperature,
        )
        for d in dims[:-1]
    ]
    if not shorter or nested == 0:
        return full
    return full + nested * torch.stack(shorter).mean()


def _symmetric(
    images_BE: Tensor,
    texts_BE: Tensor,
    bank_NE: Tensor,
    caption_B: Tensor,
    gathered: tuple[Tensor, Tensor, Tensor],
    positive_B: Tensor,
    temperature: float,
) -> Tensor:
    images_AE, texts_AE, own_A = gathered
    # Two images with the same caption are not negatives of each other.
    same_BA = (caption_B[:, None] == own_A[None]).scatter(1, positive_B[:, None], False)
    texts_BA = (images_BE @ texts_AE.T / temperature).masked_fill(same_BA, MASKED_LOGIT)
    bank_BN = (images_BE @ bank_NE.T / temperature).scatter(1, caption_B[:, None], MASKED_LOGIT)
    to_text = F.cross_entropy(torch.cat([texts_BA, bank_BN], dim=1), positive_B)
    one_process = len(images_AE) == len(images_BE)
    images_BA = texts_BA.T if one_process else (texts_BE @ images_AE.T / temperature).masked_fill(same_BA, MASKED_LOGIT)
    return 0.5 * (to_text + F.cross_entropy(images_BA, positive_B))
