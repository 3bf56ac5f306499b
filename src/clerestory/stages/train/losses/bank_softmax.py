"""What the model is told by default: pictures belong to their texts, at every nested width.

Shape suffixes: B pictures of this process, A pictures of all processes, N texts of the bank, E shared space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.models.projection import prefix
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks

FAR = -1e4


def bank_softmax_loss(
    images_BE: Tensor,
    texts_BE: Tensor,
    bank_NE: Tensor,
    own_B: Tensor,
    dims: Sequence[int],
    temperature: float,
    nested: float,
    ranks: Ranks = SINGLE,
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
        ranks: the processes that share the batch: wrong answers come from all of them, right ones from this one, and
            the mean over processes is the loss of the whole batch.
    """
    every = ranks.gather(images_BE), ranks.gather(texts_BE), ranks.gather(own_B)
    place_B = ranks.gathered_indices(images_BE)
    full = _both_ways(images_BE, texts_BE, bank_NE, own_B, every, place_B, temperature)
    shorter = [
        _both_ways(
            prefix(images_BE, d),
            prefix(texts_BE, d),
            prefix(bank_NE, d),
            own_B,
            (prefix(every[0], d), prefix(every[1], d), every[2]),
            place_B,
            temperature,
        )
        for d in dims[:-1]
    ]
    if not shorter or nested == 0:
        return full
    return full + nested * torch.stack(shorter).mean()


def _both_ways(
    images_BE: Tensor,
    texts_BE: Tensor,
    bank_NE: Tensor,
    own_B: Tensor,
    every: tuple[Tensor, Tensor, Tensor],
    place_B: Tensor,
    temperature: float,
) -> Tensor:
    images_AE, texts_AE, own_A = every
    # Two pictures with one caption are no wrong answers for one another.
    same_BA = (own_B[:, None] == own_A[None]).scatter(1, place_B[:, None], False)
    texts_BA = (images_BE @ texts_AE.T / temperature).masked_fill(same_BA, FAR)
    bank_BN = (images_BE @ bank_NE.T / temperature).scatter(1, own_B[:, None], FAR)
    to_text = F.cross_entropy(torch.cat([texts_BA, bank_BN], dim=1), place_B)
    alone = len(images_AE) == len(images_BE)
    images_BA = texts_BA.T if alone else (texts_BE @ images_AE.T / temperature).masked_fill(same_BA, FAR)
    return 0.5 * (to_text + F.cross_entropy(images_BA, place_B))
