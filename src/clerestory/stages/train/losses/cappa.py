"""Captions as a decoder reads and writes them: word after word, or all at once from the picture alone.

CapPa (Tschannen et al. 2023, "Image Captioners Are Scalable Vision Learners Too", arXiv:2306.07915) trains a share of
the captions with *parallel prediction*: the decoder sees only mask tokens, may look at all of them, and must say every
word from the picture. It cannot lean on the words before, so the picture tower has to see more. The published recipe
masks 75 % of each batch.

Shape suffixes: B captions, L words of the longest caption with its marks, T = L - 1 positions to be predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clerestory.core.errors import InputError
from clerestory.stages.train.losses.linear_cross_entropy import IGNORE

PUBLISHED_SHARE = 0.75


@dataclass(frozen=True)
class CaptionBatch:
    """What goes into a caption decoder and what must come out.

    Attributes:
        inputs_BT: word ids; in parallel rows the mask token at every position, so that not even the length leaks.
        targets_BT: position t of the inputs predicts word t + 1 of the caption; padding is ``IGNORE``.
        parallel_B: which captions are predicted all at once.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    parallel_B: Tensor

    def attention_mask(self) -> Tensor:
        """Mask ``(B, 1, T, T)`` for scaled_dot_product_attention: True where a position may look."""
        length = self.inputs_BT.shape[1]
        past_TT = torch.ones(length, length, dtype=torch.bool, device=self.inputs_BT.device).tril()
        return (past_TT | self.parallel_B[:, None, None])[:, None]


def autoregressive_inputs(ids_BL: Tensor, *, pad: int) -> CaptionBatch:
    """Every word from the words before it.

    Args:
        ids_BL: captions with start and end marks, padded at the end.
        pad: the padding's id, which is nobody's target.
    """
    _check(ids_BL)
    inputs_BT, words_BT = ids_BL[:, :-1], ids_BL[:, 1:]
    none_B = torch.zeros(len(ids_BL), dtype=torch.bool, device=ids_BL.device)
    return CaptionBatch(inputs_BT, words_BT.masked_fill(words_BT == pad, IGNORE), none_B)


def cappa_inputs(
    ids_BL: Tensor, share: float, generator: torch.Generator | None = None, *, mask: int, pad: int
) -> CaptionBatch:
    """A share of the captions to be predicted in parallel, the others word after word.

    The number of parallel rows is ``share`` of the batch, rounded, so steps cost the same; which rows is drawn.

    Args:
        ids_BL: captions with start and end marks, padded at the end.
        share: of the batch, 0 to 1; published: 0.75.
        generator: where the draw comes from (on the CPU), torch's own when left out.
        mask: the id of the mask token, which no caption contains.
        pad: the padding's id.

    Raises:
        InputError: the share is outside 0…1, the ids are no matrix of two columns or more, or mask is pad.
    """
    if not 0 <= share <= 1:
        raise InputError(
            f"{share} of a batch cannot be predicted in parallel", "give a share from 0 to 1, such as 0.75"
        )
    if mask == pad:
        raise InputError("the mask token and the padding have one id", "give the mask an id of its own")
    plain = autoregressive_inputs(ids_BL, pad=pad)
    order_B = torch.randperm(len(ids_BL), generator=generator).to(ids_BL.device)
    parallel_B = plain.parallel_B.index_fill(0, order_B[: round(share * len(ids_BL))], True)
    return CaptionBatch(plain.inputs_BT.masked_fill(parallel_B[:, None], mask), plain.targets_BT, parallel_B)


def _check(ids_BL: Tensor) -> None:
    if ids_BL.ndim != 2 or ids_BL.shape[1] < 2:
        raise InputError(
            f"captions of shape {tuple(ids_BL.shape)} leave nothing to predict",
            "give a matrix of captions with at least a start mark and one word each",
        )
