"""Inputs and targets of the caption decoder, for autoregressive and for parallel prediction.

CapPa (Tschannen et al. 2023, "Image Captioners Are Scalable Vision Learners Too", arXiv:2306.07915) trains a share of
the captions with *parallel prediction*: the decoder gets only mask tokens, attends to all of them, and must predict
every token from the image. It cannot rely on the tokens before, so the image tower has to encode more. The published
share is 75 % of each batch.

Shape suffixes: B captions, L tokens of the longest caption with start and end tokens, T = L - 1 predicted positions.
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
    """Inputs and targets of a caption decoder.

    Attributes:
        inputs_BT: token ids; in parallel rows the mask token at every position, so that not even the length leaks.
        targets_BT: position t of the inputs predicts token t + 1 of the caption; padding is ``IGNORE``.
        parallel_B: whether a caption is predicted in parallel.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    parallel_B: Tensor

    def attention_mask(self) -> Tensor:
        """``(B, 1, T, T)`` for scaled_dot_product_attention: True where a position may attend."""
        length = self.inputs_BT.shape[1]
        past_TT = torch.ones(length, length, dtype=torch.bool, device=self.inputs_BT.device).tril()
        return (past_TT | self.parallel_B[:, None, None])[:, None]


def autoregressive_inputs(ids_BL: Tensor, *, pad: int) -> CaptionBatch:
    """Every token predicted from the tokens before it.

    Args:
        ids_BL: captions with start and end tokens, padded at the end.
        pad: id of the padding, which is never a target.
    """
    _check(ids_BL)
    inputs_BT, targets_BT = ids_BL[:, :-1], ids_BL[:, 1:]
    parallel_B = torch.zeros(len(ids_BL), dtype=torch.bool, device=ids_BL.device)
    return CaptionBatch(inputs_BT, targets_BT.masked_fill(targets_BT == pad, IGNORE), parallel_B)


def cappa_inputs(
    ids_BL: Tensor, share: float, generator: torch.Generator | None = None, *, mask: int, pad: int
) -> CaptionBatch:
    """A share of the captions for parallel prediction, the others autoregressive.

    The number of parallel rows is ``share`` of the batch, rounded, so that all steps cost the same; the rows are drawn
    at random.

    Args:
        ids_BL: captions with start and end tokens, padded at the end.
        share: of the batch, 0 to 1; published: 0.75.
        generator: of the draw (on the CPU); torch's default by default.
        mask: id of the mask token, which no caption contains.
        pad: id of the padding.

    Raises:
        InputError: the share is outside 0…1, the ids are not a matrix with at least two columns, or mask equals pad.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share for parallel prediction is {share}", "give a share from 0 to 1, such as 0.75")
    if mask == pad:
        raise InputError(f"mask token and padding both have the id {pad}", "give the mask token an id of its own")
    plain = autoregressive_inputs(ids_BL, pad=pad)
    order_B = torch.randperm(len(ids_BL), generator=generator).to(ids_BL.device)
    parallel_B = plain.parallel_B.index_fill(0, order_B[: round(share * len(ids_BL))], True)
    return CaptionBatch(plain.inputs_BT.masked_fill(parallel_B[:, None], mask), plain.targets_BT, parallel_B)


def _check(ids_BL: Tensor) -> None:
    if ids_BL.ndim != 2 or ids_BL.shape[1] < 2:
        raise InputError(
            f"captions of shape {tuple(ids_BL.shape)} leave nothing to predict",
            "give a matrix of captions with at least two tokens each",
        )
