"""Cross-entropy straight from hidden states: the logits of a few words at a time, never of all.

A caption batch's logits are its largest tensor: 256 captions of 64 words over 32,000 word pieces are 2 GiB in float32,
and autograd keeps their softmax beside them. Here the output layer and the cross-entropy are one function that makes
the logits of a few positions, turns them into gradients at once and forgets them (the idea of Wijmans et al. 2024,
"Cut Your Losses in Large-Vocabulary Language Models", arXiv:2411.09009, and of Hsu et al. 2024, "Liger Kernel",
arXiv:2410.10989). The naive formula, the oracle of the tests::

    logits_NV = hidden_ND @ weight_VD.T + bias_V
    loss = F.cross_entropy(logits_NV, target_N, ignore_index=ignore, label_smoothing=smoothing)

Shape suffixes: N positions, M positions that count, C positions of one tile, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from clerestory.core.errors import InputError
from clerestory.stages.train.losses.tiling import add_product, product, spans, tile_rows, wide

IGNORE = -100
# Every tile adds to the gradient of the whole output layer, which is larger than any cache: few tiles, then.
LEAST_ROWS = 128


def linear_cross_entropy(
    hidden: Tensor,
    weight_VD: Tensor,
    target: Tensor,
    bias_V: Tensor | None = None,
    *,
    ignore: int = IGNORE,
    smoothing: float = 0.0,
    rows: int | None = None,
) -> Tensor:
    """Mean cross-entropy of an output layer's words; saves the gradients (N·D + V·D + V floats), no logits.

    Positions to be ignored cost nothing: they are left out before the first product. Where every position is ignored
    the loss is 0 with gradients of 0 (``F.cross_entropy`` gives NaN), so that a batch of padding spoils no step. A
    GPU is waited for once, to learn how many positions count, which breaks a compiled graph.

    Args:
        hidden: what enters the output layer, ``(..., D)``.
        weight_VD: the output layer, often the word embeddings themselves.
        target: the right words, of the shape of ``hidden`` without D.
        bias_V: of the output layer.
        ignore: the target of positions that do not count.
        smoothing: share of the target spread over all words (Szegedy et al. 2016, arXiv:1512.00567).
        rows: positions of one tile; chosen by device when left out.

    Raises:
        InputError: shapes that do not fit, a smoothing outside 0…1, or ``rows`` below 1.
    """
    if hidden.shape[:-1] != target.shape or weight_VD.ndim != 2 or hidden.shape[-1] != weight_VD.shape[1]:
        shapes = f"{tuple(hidden.shape)}, {tuple(weight_VD.shape)} and {tuple(target.shape)}"
        raise InputError(
            f"hidden states, output layer and targets of shapes {shapes} do not fit",
            "give (..., D), (V, D) and one target per hidden state",
        )
    if not 0 <= smoothing <= 1:
        raise InputError(f"a label smoothing of {smoothing} is no share", "give a number from 0 to 1")
    with torch.autocast(hidden.device.type, enabled=False):
        out = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch leaves it without types
            hidden.flatten(0, -2),
            weight_VD,
            bias_V,
            target.flatten(),
            ignore,
            smoothing,
            rows,
            torch.is_grad_enabled(),
        )
    return cast(Tensor, out)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        ignore: int,
        smoothing: float,
        rows: int | None,
        learning: bool,
    ) -> Tensor:
        kept, words = wide(hidden_ND.dtype), len(weight_VD)
        layer_VD = weight_VD.to(hidden_ND.dtype)
        for_hidden, for_weight, for_bias = (learning and need for need in ctx.needs_input_grad[:3])
        position_M = (target_N != ignore).nonzero().flatten()
        grad_hidden_ND = torch.zeros_like(hidden_ND, dtype=kept) if for_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=kept) if for_weight else None
        grad_bias_V = torch.zeros_like(bias_V, dtype=kept) if for_bias and bias_V is not None else None
        loss = hidden_ND.new_zeros((), dtype=kept)
        for part in spans(len(position_M), tile_rows(words, hidden_ND.device, rows, LEAST_ROWS)):
            position_C = position_M[part]
            h_CD, right_C1 = hidden_ND[position_C], target_N[position_C, None]
            s_CV = product(h_CD, layer_VD.T)
            if bias_V is not None:
                s_CV += bias_V
            total_C1 = s_CV.logsumexp(dim=1, keepdim=True)
            wanted_C1 = (1 - smoothing) * s_CV.gather(1, right_C1)
            if smoothing:
                wanted_C1 += smoothing * s_CV.mean(dim=1, keepdim=True)
            loss = loss + (total_C1 - wanted_C1).sum()
            if not (for_hidden or for_weight or for_bias):
                continue
            g_CV = s_CV.sub_(total_C1).exp_()
            if smoothing:
                g_CV -= smoothing / words
            g_CV.scatter_(1, right_C1, g_CV.gather(1, right_C1) + (smoothing - 1))
            if grad_hidden_ND is not None:
                grad_hidden_ND[position_C] = (g_CV.to(h_CD.dtype) @ layer_VD).to(kept)
            if grad_weight_VD is not None:
                add_product(grad_weight_VD, g_CV.T, h_CD)
            if grad_bias_V is not None:
                grad_bias_V += g_CV.sum(dim=0)
        count = max(len(position_M), 1)
        found = (grad_hidden_ND, grad_weight_VD, grad_bias_V)
        for grad in found:
            if grad is not None:
                grad /= count
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype
        ctx.save_for_backward(*found)
        return loss / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [
            None if t is None else (t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*saved, None, None, None, None, None)
