"""Checks of the inputs of the contrastive losses, and the logits of one tile.

Shape suffixes: B images and texts of this process, C rows of one tile, N texts of one block, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clerestory.core.errors import InputError
from clerestory.stages.train.losses.ring import Block
from clerestory.stages.train.losses.tiling import product, sum_dtype


def check(images_BD: Tensor, texts_BD: Tensor, caption_B: Tensor | None) -> None:
    """Check the inputs of a contrastive loss.

    Raises:
        InputError: the embeddings are not two non-empty matrices of the same shape and type, or there is not one
            caption number per pair.
    """
    if images_BD.ndim != 2 or images_BD.shape != texts_BD.shape or not len(images_BD):
        shapes = f"{tuple(images_BD.shape)} and {tuple(texts_BD.shape)}"
        raise InputError(
            f"image and text embeddings have the shapes {shapes}",
            "give two matrices of the same shape with at least one row, row i of the texts belonging to image i",
        )
    if images_BD.dtype != texts_BD.dtype or not images_BD.is_floating_point():
        raise InputError(
            f"images are {images_BD.dtype} and texts {texts_BD.dtype}", "convert both to the same floating-point type"
        )
    if caption_B is not None and caption_B.shape != images_BD.shape[:1]:
        raise InputError(
            f"there are {caption_B.numel()} caption numbers for {len(images_BD)} pairs", "give one per pair"
        )


def scalar(value: Tensor | float, like: Tensor) -> Tensor:
    """A number as a tensor without dimensions, on the device of ``like``; a parameter keeps its gradient."""
    if isinstance(value, Tensor):
        return value.reshape(())
    return torch.tensor(value, dtype=sum_dtype(like.dtype), device=like.device)


def tile_logits(
    images_BD: Tensor,
    block: Block,
    caption_B: Tensor | None,
    tile: slice,
    own_block: bool,
    scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """The logits of some images with all texts of a block: ``(C, N)``, float32 or float64; may be modified in place.

    Args:
        images_BD: this process's images.
        block: texts ``(N, D)`` and, if ``caption_B`` is given, their caption numbers ``(N,)``.
        caption_B: caption numbers of the images; other texts of the same caption are not negatives: their logit is
            minus infinity.
        tile: the images.
        own_block: whether the block is this process's own, so that text i belongs to image i.
        scale: multiplies the similarities.
        bias: is added.
    """
    s_CN = product(images_BD[tile], block[0].T, scale)
    if bias is not None:
        s_CN += bias
    mask_same_captions(s_CN, caption_B, block, tile, own_block)
    return s_CN


def mask_same_captions(s_CN: Tensor, caption_B: Tensor | None, block: Block, tile: slice, own_block: bool) -> None:
    """Set the logits of other texts of the same caption to minus infinity, in place; see ``tile_logits``."""
    if caption_B is None:
        return
    same_CN = caption_B[tile, None] == block[1][None]
    if own_block:
        same_CN.diagonal(tile.start).fill_(False)
    s_CN.masked_fill_(same_CN, -math.inf)
