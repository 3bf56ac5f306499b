"""The softmax contrastive loss of CLIP, with its gradients computed in the forward pass.

An image must be matched with its text among all texts, and a text with its image (Radford et al. 2021, "Learning
Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020). The naive formula, which the
tests compare with::

    s_BB = scale * images_BD @ texts_BD.T
    target_B = torch.arange(B)
    loss = (F.cross_entropy(s_BB, target_B) + F.cross_entropy(s_BB.T, target_B)) / 2

The gradient of an entry needs the normaliser of its row and of its column, and the latter depends on all rows. So the
tiles are computed twice: once for the normalisers, once for the gradients. 2·B·D floats are saved for the backward
pass.

Shape suffixes: B images and texts of this process, C rows of one tile, N texts of one block, D width.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from clerestory.stages.train.losses.ring import SINGLE_RING, Block, Ring
from clerestory.stages.train.losses.tiling import add_product, spans, sum_dtype, tile_rows
from clerestory.stages.train.losses.validation import check, scalar, tile_logits


def softmax_loss(
    images_BD: Tensor,
    texts_BD: Tensor,
    scale: Tensor | float,
    *,
    caption_B: Tensor | None = None,
    ring: Ring = SINGLE_RING,
    rows: int | None = None,
) -> Tensor:
    """Softmax contrastive loss, mean of both directions; saves 2·B·D floats and one number for the backward pass.

    Precision and the use of a ring are those of ``sigmoid_loss``.

    Args:
        images_BD: embeddings, usually unit rows.
        texts_BD: the text of each image, in the same order.
        scale: multiplies the similarities (1 / temperature).
        caption_B: the caption number of each pair; two pairs with the same caption are not negatives of each other.
        ring: the processes that share the batch.
        rows: of one tile; depends on the device by default.

    Raises:
        InputError: the embeddings do not match, or ``rows`` is below 1.
    """
    check(images_BD, texts_BD, caption_B)
    number = scalar(scale, images_BD)
    with torch.autocast(images_BD.device.type, enabled=False):
        out = _Softmax.apply(images_BD, texts_BD, number, caption_B, ring, rows, torch.is_grad_enabled())  # type: ignore[no-untyped-call]  # torch leaves it without types
    return cast(Tensor, out)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images_BD: Tensor,
        texts_BD: Tensor,
        scale: Tensor,
        caption_B: Tensor | None,
        ring: Ring,
        rows: int | None,
        grad_enabled: bool,
    ) -> Tensor:
        needs_grad = [grad_enabled and need for need in ctx.needs_input_grad[:3]]
        texts_BD = texts_BD.detach()
        block = (texts_BD,) if caption_B is None else (texts_BD, caption_B)
        step = tile_rows(len(images_BD), images_BD.device, rows)
        row_B, column_B, positive_B = _normalisers(images_BD, block, scale, caption_B, ring, step)
        grads: tuple[Tensor | None, ...] = (None, None, None)
        if any(needs_grad):
            grads = _gradients(images_BD, (*block, column_B), scale, caption_B, ring, step, row_B, needs_grad)
        ctx.dtypes = images_BD.dtype, texts_BD.dtype, scale.dtype
        ctx.save_for_backward(*(grad if need else None for grad, need in zip(grads, needs_grad, strict=True)))
        return ((row_B + column_B) / 2 - positive_B).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [
            None if t is None else (t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*saved, None, None, None, None)


def _normalisers(
    images_BD: Tensor, block: Block, scale: Tensor, caption_B: Tensor | None, ring: Ring, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp of each image's row and of each text's column over all processes, and the logits of the pairs."""
    row_B = images_BD.new_full((len(images_BD),), -math.inf, dtype=sum_dtype(images_BD.dtype))
    positive_B = row_B.clone()

    def work(block: Block, owner: int) -> Block:
        column_N = torch.full_like(row_B, -math.inf)
        for tile in spans(len(images_BD), step):
            s_CN = tile_logits(images_BD, block, caption_B, tile, owner == ring.rank, scale, None)
            row_B[tile] = torch.logaddexp(row_B[tile], s_CN.logsumexp(dim=1))
            column_N = torch.logaddexp(column_N, s_CN.logsumexp(dim=0))
            if owner == ring.rank:
                positive_B[tile] = s_CN.diagonal(tile.start)
        return (column_N,)

    (column_B,) = ring.exchange(block, work, torch.logaddexp)
    return row_B, column_B, positive_B


def _gradients(
    images_BD: Tensor,
    block: Block,
    scale: Tensor,
    caption_B: Tensor | None,
    ring: Ring,
    step: int,
    row_B: Tensor,
    needs_grad: list[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of the images, the texts and the scale; the last tensor of the block are its columns' normalisers."""
    count = len(images_BD)
    by_image, by_text = needs_grad[0] or needs_grad[2], needs_grad[1]
    grad_images_BD = torch.zeros_like(images_BD, dtype=row_B.dtype) if by_image else None

    def work(block: Block, owner: int) -> Block:
        texts_ND, column_N = block[0], block[-1]
        grad_texts_ND = torch.zeros_like(texts_ND, dtype=row_B.dtype) if by_text else None
        for tile in spans(count, step):
            s_CN = tile_logits(images_BD, block, caption_B, tile, owner == ring.rank, scale, None)
            g_CN = (s_CN - row_B[tile, None]).exp_()
            g_CN += s_CN.sub_(column_N).exp_()
            if owner == ring.rank:
                g_CN.diagonal(tile.start).sub_(2)
            if grad_images_BD is not None:
                add_product(grad_images_BD[tile], g_CN, texts_ND)
            if grad_texts_ND is not None:
                add_product(grad_texts_ND, g_CN.T, images_BD[tile])
        return () if grad_texts_ND is None else (grad_texts_ND,)

    text_grads = ring.exchange(block, work, torch.add)
    by_scale = None
    if grad_images_BD is not None:
        by_scale = (grad_images_BD * images_BD).sum() / (2 * count)
        grad_images_BD *= scale / (2 * count)
    for grad_BD in text_grads:
        grad_BD *= scale / (2 * count)
    return grad_images_BD, text_grads[0] if text_grads else None, by_scale
