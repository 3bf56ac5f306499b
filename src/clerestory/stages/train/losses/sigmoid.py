"""The sigmoid contrastive loss, with its gradients computed in the forward pass.

Every pair of a picture and a text is a yes-or-no question (Zhai, Mustafa, Kolesnikov, Beyer 2023, "Sigmoid Loss for
Language Image Pre-Training", arXiv:2303.15343). The naive formula, which holds three B × B matrices until the backward
pass and is the oracle of the tests::

    s_BB = scale * images_BD @ texts_BD.T + bias
    z_BB = 2 * torch.eye(B) - 1
    loss = -F.logsigmoid(z_BB * s_BB).sum() / B

Here a few rows of ``s`` live at a time. Since ``-log σ(-s) = softplus(s)`` and ``-log σ(s) = softplus(s) - s``, the sum
is that of all softplus minus the diagonal, and its gradient is ``σ(s) - I``, so the same rows give the loss and both
gradients, and only those (2·B·D floats) wait for the backward pass.

Shape suffixes: B pictures and texts of this process, C rows of one tile, N texts of one block, D width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.stages.train.losses.ring import ALONE, Block, Ring
from clerestory.stages.train.losses.tiling import add_product, spans, tile_rows, wide
from clerestory.stages.train.losses.validation import check, cosines, scalar


def sigmoid_loss(
    images_BD: Tensor,
    texts_BD: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    *,
    own_B: Tensor | None = None,
    ring: Ring = ALONE,
    rows: int | None = None,
) -> Tensor:
    """Sigmoid contrastive loss per picture; saves 2·B·D floats and two numbers for the backward pass.

    Products of half-precision embeddings are taken in their type, everything after in float32, also under autocast.
    Over a ring the value is this process's share: its mean over the processes is the loss of the joint batch, and
    so are the gradients once they are averaged, as data parallel training does. The gradients of the texts are
    already summed over the ring when they come home, so every process must weigh the loss by the same number and bring
    equally many pairs. Under ``torch.compile`` every tile is unrolled, so give large ``rows``; a ring of several breaks
    the graph and runs as it is.

    Args:
        images_BD: embeddings, usually unit rows.
        texts_BD: each picture's own text, in the same order.
        scale: multiplies the similarities (the exponential of SigLIP's t').
        bias: added to the logits; SigLIP starts at -10.
        own_B: a number per pair; two pairs with one number (two pictures of one caption) are no wrong answers for one
            another and are left out.
        ring: the processes that share the batch.
        rows: of one tile; chosen by device when left out.

    Raises:
        InputError: the embeddings do not belong together, or ``rows`` is below 1.
    """
    check(images_BD, texts_BD, own_B)
    numbers = scalar(scale, images_BD), scalar(bias, images_BD)
    with torch.autocast(images_BD.device.type, enabled=False):
        out = _Sigmoid.apply(images_BD, texts_BD, *numbers, own_B, ring, rows, torch.is_grad_enabled())  # type: ignore[no-untyped-call]  # torch leaves it without types
    return cast(Tensor, out)


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images_BD: Tensor,
        texts_BD: Tensor,
        scale: Tensor,
        bias: Tensor,
        own_B: Tensor | None,
        ring: Ring,
        rows: int | None,
        learning: bool,
    ) -> Tensor:
        wanted = [learning and need for need in ctx.needs_input_grad[:4]]
        by_image, by_text = wanted[0] or wanted[2], wanted[1]
        kept, count = wide(images_BD.dtype), len(images_BD)
        loss = images_BD.new_zeros((), dtype=kept)
        by_bias = loss.clone()
        grad_images_BD = images_BD.new_zeros(images_BD.shape, dtype=kept) if by_image else None
        step = tile_rows(count, images_BD.device, rows)

        def work(block: Block, owner: int) -> Block:
            nonlocal loss, by_bias
            texts_ND, home = block[0], owner == ring.rank
            grad_texts_ND = texts_ND.new_zeros(texts_ND.shape, dtype=kept) if by_text else None
            for part in spans(count, step):
                s_CN = cosines(images_BD, block, own_B, part, home, scale, bias)
                loss = loss + F.softplus(s_CN).sum()
                if home:
                    loss = loss - s_CN.diagonal(part.start).sum()
                g_CN = s_CN.sigmoid_()
                if home:
                    g_CN.diagonal(part.start).sub_(1)
                if wanted[3]:
                    by_bias = by_bias + g_CN.sum()
                if grad_images_BD is not None:
                    add_product(grad_images_BD[part], g_CN, texts_ND)
                if grad_texts_ND is not None:
                    add_product(grad_texts_ND, g_CN.T, images_BD[part])
            return () if grad_texts_ND is None else (grad_texts_ND,)

        block = (texts_BD.detach(),) if own_B is None else (texts_BD.detach(), own_B)
        home_again = ring.travel(block, work, torch.add)
        by_scale = None
        if grad_images_BD is not None:
            by_scale = (grad_images_BD * images_BD).sum() / count
            grad_images_BD *= scale / count
        for grad_BD in home_again:
            grad_BD *= scale / count
        ctx.dtypes = images_BD.dtype, texts_BD.dtype, scale.dtype, bias.dtype
        ctx.save_for_backward(
            grad_images_BD if wanted[0] else None,
            home_again[0] if home_again else None,
            by_scale if wanted[2] else None,
            by_bias / count if wanted[3] else None,
        )
        return loss / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [
            None if t is None else (t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*saved, None, None, None, None)
