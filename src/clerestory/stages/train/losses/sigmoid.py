"""The sigmoid contrastive loss, with its gradients computed in the forward pass.

Every pair of an image and a text is a binary classification (Zhai, Mustafa, Kolesnikov, Beyer 2023, "Sigmoid Loss for
Language Image Pre-Training", arXiv:2303.15343). The naive formula, which keeps three B × B matrices until the backward
pass and which the tests compare with::

    s_BB = scale * images_BD @ texts_BD.T + bias
    z_BB = 2 * torch.eye(B) - 1
    loss = -F.logsigmoid(z_BB * s_BB).sum() / B

Here a few rows of ``s`` exist at a time. Since ``-log σ(-s) = softplus(s)`` and ``-log σ(s) = softplus(s) - s``, the
sum is that of all softplus minus the diagonal, and its gradient is ``σ(s) - I``, so the same rows give the loss and
both gradients, and only those (2·B·D floats) are saved for the backward pass.

Shape suffixes: B images and texts of this process, C rows of one tile, N texts of one block, D width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.stages.train.losses.ring import SINGLE_RING, Block, Ring
from clerestory.stages.train.losses.tiling import add_product, spans, sum_dtype, tile_rows
from clerestory.stages.train.losses.validation import check, scalar, tile_logits


def sigmoid_loss(
    images_BD: Tensor,
    texts_BD: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    *,
    caption_B: Tensor | None = None,
    ring: Ring = SINGLE_RING,
    rows: int | None = None,
) -> Tensor:
    """Sigmoid contrastive loss per image; saves 2·B·D floats and two numbers for the backward pass.

    Products of half-precision embeddings are computed in their type, everything else in float32, also under autocast.
    Over a ring the value is this process's tile: its mean over the processes is the loss of the joint batch, and the
    same holds for the gradients, which data parallel training averages. The gradients of the texts are summed over the
    ring, so every process must use the same loss weight and the same number of pairs. Under ``torch.compile`` every
    tile is unrolled, so ``rows`` should be large; a ring of several processes breaks the graph and runs eagerly.

    Args:
        images_BD: embeddings, usually unit rows.
        texts_BD: the text of each image, in the same order.
        scale: multiplies the similarities (the exponential of SigLIP's t').
        bias: added to the logits; SigLIP starts at -10.
        caption_B: the caption number of each pair; two pairs with the same caption are not negatives of each other.
        ring: the processes that share the batch.
        rows: of one tile; depends on the device by default.

    Raises:
        InputError: the embeddings do not match, or ``rows`` is below 1.
    """
    check(images_BD, texts_BD, caption_B)
    numbers = scalar(scale, images_BD), scalar(bias, images_BD)
    with torch.autocast(images_BD.device.type, enabled=False):
        out = _Sigmoid.apply(images_BD, texts_BD, *numbers, caption_B, ring, rows, torch.is_grad_enabled())  # type: ignore[no-untyped-call]  # torch leaves it without types
    return cast(Tensor, out)


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images_BD: Tensor,
        texts_BD: Tensor,
        scale: Tensor,
        bias: Tensor,
        caption_B: Tensor | None,
        ring: Ring,
        rows: int | None,
        grad_enabled: bool,
    ) -> Tensor:
        needs_grad = [grad_enabled and need for need in ctx.needs_input_grad[:4]]
        by_image, by_text = needs_grad[0] or needs_grad[2], needs_grad[1]
        dtype, count = sum_dtype(images_BD.dtype), len(images_BD)
        loss = images_BD.new_zeros((), dtype=dtype)
        by_bias = loss.clone()
        grad_images_BD = images_BD.new_zeros(images_BD.shape, dtype=dtype) if by_image else None
        step = tile_rows(count, images_BD.device, rows)

        def work(block: Block, owner: int) -> Block:
            nonlocal loss, by_bias
            texts_ND, own_block = block[0], owner == ring.rank
            grad_texts_ND = texts_ND.new_zeros(texts_ND.shape, dtype=dtype) if by_text else None
            for tile in spans(count, step):
                s_CN = tile_logits(images_BD, block, caption_B, tile, own_block, scale, bias)
                loss = loss + F.softplus(s_CN).sum()
                if own_block:
                    loss = loss - s_CN.diagonal(tile.start).sum()
                g_CN = s_CN.sigmoid_()
                if own_block:
                    g_CN.diagonal(tile.start).sub_(1)
                if needs_grad[3]:
                    by_bias = by_bias + g_CN.sum()
                if grad_images_BD is not None:
                    add_product(grad_images_BD[tile], g_CN, texts_ND)
                if grad_texts_ND is not None:
                    add_product(grad_texts_ND, g_CN.T, images_BD[tile])
            return () if grad_texts_ND is None else (grad_texts_ND,)

        block = (texts_BD.detach(),) if caption_B is None else (texts_BD.detach(), caption_B)
        text_grads = ring.exchange(block, work, torch.add)
        by_scale = None
        if grad_images_BD is not None:
            by_scale = (grad_images_BD * images_BD).sum() / count
            grad_images_BD *= scale / count
        for grad_BD in text_grads:
            grad_BD *= scale / count
        ctx.dtypes = images_BD.dtype, texts_BD.dtype, scale.dtype, bias.dtype
        ctx.save_for_backward(
            grad_images_BD if needs_grad[0] else None,
            text_grads[0] if text_grads else None,
            by_scale if needs_grad[2] else None,
            by_bias / count if needs_grad[3] else None,
        )
        return loss / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [
            None if t is None else (t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*saved, None, None, None, None)
