"""The softmax contrastive loss of CLIP, with its gradients computed in the forward pass.

A picture must find its text among all texts, and a text its picture (Radford et al. 2021, "Learning Transferable Visual
Models From Natural Language Supervision", arXiv:2103.00020). The naive formula, the oracle of the tests::

    s_BB = scale * images_BD @ texts_BD.T
    own_B = torch.arange(B)
    loss = (F.cross_entropy(s_BB, own_B) + F.cross_entropy(s_BB.T, own_B)) / 2

The gradient of an entry needs the normaliser of its row and of its column, and a column's is known only when all rows
were seen. So the tiles are made twice: once for the normalisers, once for the gradients; what waits for the backward
pass is 2·B·D floats.

Shape suffixes: B pictures and texts of this process, C rows of one tile, N texts of one block, D width.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from clerestory.stages.train.losses.ring import ALONE, Block, Ring
from clerestory.stages.train.losses.tiling import add_product, spans, tile_rows, wide
from clerestory.stages.train.losses.validation import check, cosines, scalar


def softmax_loss(
    images_BD: Tensor,
    texts_BD: Tensor,
    scale: Tensor | float,
    *,
    own_B: Tensor | None = None,
    ring: Ring = ALONE,
    rows: int | None = None,
) -> Tensor:
    """Softmax contrastive loss, mean of both directions; saves 2·B·D floats and one number for the backward pass.

    Precision, ring and the order of gradients are those of ``sigmoid_loss``.

    Args:
        images_BD: embeddings, usually unit rows.
        texts_BD: each picture's own text, in the same order.
        scale: multiplies the similarities (1 / temperature).
        own_B: a number per pair; two pairs with one number are no wrong answers for one another and are left out.
        ring: the processes that share the batch.
        rows: of one tile; chosen by device when left out.

    Raises:
        InputError: the embeddings do not belong together, or ``rows`` is below 1.
    """
    check(images_BD, texts_BD, own_B)
    number = scalar(scale, images_BD)
    with torch.autocast(images_BD.device.type, enabled=False):
        out = _Softmax.apply(images_BD, texts_BD, number, own_B, ring, rows, torch.is_grad_enabled())  # type: ignore[no-untyped-call]  # torch leaves it without types
    return cast(Tensor, out)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images_BD: Tensor,
        texts_BD: Tensor,
        scale: Tensor,
        own_B: Tensor | None,
        ring: Ring,
        rows: int | None,
        learning: bool,
    ) -> Tensor:
        wanted = [learning and need for need in ctx.needs_input_grad[:3]]
        texts_BD = texts_BD.detach()
        block = (texts_BD,) if own_B is None else (texts_BD, own_B)
        step = tile_rows(len(images_BD), images_BD.device, rows)
        row_B, column_B, own_logit_B = _normalisers(images_BD, block, scale, own_B, ring, step)
        found: tuple[Tensor | None, ...] = (None, None, None)
        if any(wanted):
            found = _gradients(images_BD, (*block, column_B), scale, own_B, ring, step, row_B, wanted)
        ctx.dtypes = images_BD.dtype, texts_BD.dtype, scale.dtype
        ctx.save_for_backward(*(grad if need else None for grad, need in zip(found, wanted, strict=True)))
        return ((row_B + column_B) / 2 - own_logit_B).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [
            None if t is None else (t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*saved, None, None, None, None)


def _normalisers(
    images_BD: Tensor, block: Block, scale: Tensor, own_B: Tensor | None, ring: Ring, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp of each picture's row and of each text's column over all processes, and the own pairs' logits."""
    row_B = images_BD.new_full((len(images_BD),), -math.inf, dtype=wide(images_BD.dtype))
    own_logit_B = row_B.clone()

    def work(block: Block, owner: int) -> Block:
        column_N = torch.full_like(row_B, -math.inf)
        for part in spans(len(images_BD), step):
            s_CN = cosines(images_BD, block, own_B, part, owner == ring.rank, scale, None)
            row_B[part] = torch.logaddexp(row_B[part], s_CN.logsumexp(dim=1))
            column_N = torch.logaddexp(column_N, s_CN.logsumexp(dim=0))
            if owner == ring.rank:
                own_logit_B[part] = s_CN.diagonal(part.start)
        return (column_N,)

    (column_B,) = ring.travel(block, work, torch.logaddexp)
    return row_B, column_B, own_logit_B


def _gradients(
    images_BD: Tensor,
    block: Block,
    scale: Tensor,
    own_B: Tensor | None,
    ring: Ring,
    step: int,
    row_B: Tensor,
    wanted: list[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of the pictures, the texts and the scale; the block's last tensor is its columns' normalisers."""
    count = len(images_BD)
    by_image, by_text = wanted[0] or wanted[2], wanted[1]
    grad_images_BD = torch.zeros_like(images_BD, dtype=row_B.dtype) if by_image else None

    def work(block: Block, owner: int) -> Block:
        texts_ND, column_N = block[0], block[-1]
        grad_texts_ND = torch.zeros_like(texts_ND, dtype=row_B.dtype) if by_text else None
        for part in spans(count, step):
            s_CN = cosines(images_BD, block, own_B, part, owner == ring.rank, scale, None)
            g_CN = (s_CN - row_B[part, None]).exp_()
            g_CN += s_CN.sub_(column_N).exp_()
            if owner == ring.rank:
                g_CN.diagonal(part.start).sub_(2)
            if grad_images_BD is not None:
                add_product(grad_images_BD[part], g_CN, texts_ND)
            if grad_texts_ND is not None:
                add_product(grad_texts_ND, g_CN.T, images_BD[part])
        return () if grad_texts_ND is None else (grad_texts_ND,)

    home_again = ring.travel(block, work, torch.add)
    by_scale = None
    if grad_images_BD is not None:
        by_scale = (grad_images_BD * images_BD).sum() / (2 * count)
        grad_images_BD *= scale / (2 * count)
    for grad_BD in home_again:
        grad_BD *= scale / (2 * count)
    return grad_images_BD, home_again[0] if home_again else None, by_scale
