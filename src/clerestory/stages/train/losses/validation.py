"""What the contrastive losses share: their inputs' checks and the similarities of one tile.

Shape suffixes: B pictures and texts of this process, C rows of one tile, N texts of one block, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clerestory.core.errors import InputError
from clerestory.stages.train.losses.ring import Block
from clerestory.stages.train.losses.tiling import product, wide


def check(images_BD: Tensor, texts_BD: Tensor, own_B: Tensor | None) -> None:
    """Say in a sentence what does not fit.

    Raises:
        InputError: not two matrices of one shape and type, no pair at all, or not one number per pair.
    """
    if images_BD.ndim != 2 or images_BD.shape != texts_BD.shape or not len(images_BD):
        shapes = f"{tuple(images_BD.shape)} and {tuple(texts_BD.shape)}"
        raise InputError(
            f"pictures and texts of shapes {shapes} are no pairs",
            "give two matrices of one shape with at least one row, row i of the texts belonging to picture i",
        )
    if images_BD.dtype != texts_BD.dtype or not images_BD.is_floating_point():
        raise InputError(
            f"pictures are {images_BD.dtype} and texts {texts_BD.dtype}", "convert both to one floating-point type"
        )
    if own_B is not None and own_B.shape != images_BD.shape[:1]:
        raise InputError(f"{own_B.numel()} numbers do not name {len(images_BD)} pairs", "give one number per pair")


def scalar(value: Tensor | float, like: Tensor) -> Tensor:
    """A number as a tensor without dimensions, beside ``like``; a parameter keeps its gradient."""
    if isinstance(value, Tensor):
        return value.reshape(())
    return torch.tensor(value, dtype=wide(like.dtype), device=like.device)


def cosines(
    images_BD: Tensor, block: Block, own_B: Tensor | None, part: slice, home: bool, scale: Tensor, bias: Tensor | None
) -> Tensor:
    """The logits of some pictures with all texts of a block: ``(C, N)``, float32 or float64, free to be changed.

    Args:
        images_BD: this process's pictures.
        block: texts ``(N, D)`` and, when pairs are numbered, the texts' numbers ``(N,)``.
        own_B: the pictures' numbers; a text of the same number that is not the picture's own gets minus infinity.
        part: which pictures.
        home: the block is this process's own, so that text i belongs to picture i.
        scale: multiplies the similarities.
        bias: is added.
    """
    s_CN = product(images_BD[part], block[0].T, scale)
    if bias is not None:
        s_CN += bias
    leave_out(s_CN, own_B, block, part, home)
    return s_CN


def leave_out(s_CN: Tensor, own_B: Tensor | None, block: Block, part: slice, home: bool) -> None:
    """Set the logits of texts that are no wrong answers to minus infinity, in place; arguments as in ``cosines``."""
    if own_B is None:
        return
    same_CN = own_B[part, None] == block[1][None]
    if home:
        same_CN.diagonal(part.start).fill_(False)
    s_CN.masked_fill_(same_CN, -math.inf)
