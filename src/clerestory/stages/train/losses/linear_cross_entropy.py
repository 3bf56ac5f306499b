"""Output layer and cross-entropy in one function, without ever materialising all logits.

The logits of a caption batch are its largest tensor: 256 captions of 64 tokens with a vocabulary of 32,000 are 2 GiB in
float32, and autograd keeps their softmax as well. Here the output layer and the cross-entropy are one function that
computes the logits of a few positions, turns them into gradients at once and discards them (Wijmans et al. 2024,
"Cut Your Losses in Large-Vocabulary Language Models", arXiv:2411.09009; Hsu et al. 2024, "Liger Kernel",
arXiv:2410.10989). The naive formula, which the tests compare with::

    logits_NV = hidden_ND @ weight_VD.T + bias_V
    loss = F.cross_entropy(logits_NV, target_N, ignore_index=ignore, label_smoothing=smoothing)

Shape suffixes: N positions, M positions that are not ignored, C positions of one tile, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from clerestory.core.errors import InputError
from clerestory.stages.train.losses.tiling import add_product, product, spans, sum_dtype, tile_rows

IGNORE = -100
# Every tile adds to the gradient of the whole output layer, which exceeds any cache; so there should be few tiles.
MIN_ROWS = 128


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
    """Mean cross-entropy of an output layer; saves the gradients (N·D + V·D + V floats), no logits.

    Ignored positions cost nothing: they are removed before the first product. If all positions are ignored, the loss is
    0 with zero gradients (``F.cross_entropy`` returns NaN), so that a batch of padding does not invalidate a step. A
    GPU is synchronised once, for the number of positions, which breaks a compiled graph.

    Args:
        hidden: input of the output layer, ``(..., D)``.
        weight_VD: the output layer, often the token embeddings.
        target: the token ids, with the shape of ``hidden`` without D.
        bias_V: of the output layer.
        ignore: the target of ignored positions.
        smoothing: label smoothing (Szegedy et al. 2016, arXiv:1512.00567).
        rows: positions of one tile; depends on the device by default.

    Raises:
        InputError: the shapes do not match, the smoothing is outside 0…1, or ``rows`` is below 1.
    """
    if hidden.shape[:-1] != target.shape or weight_VD.ndim != 2 or hidden.shape[-1] != weight_VD.shape[1]:
        shapes = f"{tuple(hidden.shape)}, {tuple(weight_VD.shape)} and {tuple(target.shape)}"
        raise InputError(
            f"the shapes of hidden states, output layer and targets do not match: {shapes}",
            "give (..., D), (V, D) and one target per hidden state",
        )
    if not 0 <= smoothing <= 1:
        raise InputError(f"label smoothing is {smoothing}", "give a number from 0 to 1")
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
        grad_enabled: bool,
    ) -> Tensor:
        dtype, vocab_size = sum_dtype(hidden_ND.dtype), len(weight_VD)
        layer_VD = weight_VD.to(hidden_ND.dtype)
        for_hidden, for_weight, for_bias = (grad_enabled and need for need in ctx.needs_input_grad[:3])
        position_M = (target_N != ignore).nonzero().flatten()
        grad_hidden_ND = torch.zeros_like(hidden_ND, dtype=dtype) if for_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=dtype) if for_weight else None
        grad_bias_V = torch.zeros_like(bias_V, dtype=dtype) if for_bias and bias_V is not None else None
        loss = hidden_ND.new_zeros((), dtype=dtype)
        for tile in spans(len(position_M), tile_rows(vocab_size, hidden_ND.device, rows, MIN_ROWS)):
            position_C = position_M[tile]
            h_CD, target_C1 = hidden_ND[position_C], target_N[position_C, None]
            s_CV = product(h_CD, layer_VD.T)
            if bias_V is not None:
                s_CV += bias_V
            total_C1 = s_CV.logsumexp(dim=1, keepdim=True)
            target_logit_C1 = (1 - smoothing) * s_CV.gather(1, target_C1)
            if smoothing:
                target_logit_C1 += smoothing * s_CV.mean(dim=1, keepdim=True)
            loss = loss + (total_C1 - target_logit_C1).sum()
            if not (for_hidden or for_weight or for_bias):
                continue
            g_CV = s_CV.sub_(total_C1).exp_()
            if smoothing:
                g_CV -= smoothing / vocab_size
            g_CV.scatter_(1, target_C1, g_CV.gather(1, target_C1) + (smoothing - 1))
            if grad_hidden_ND is not None:
                grad_hidden_ND[position_C] = (g_CV.to(h_CD.dtype) @ layer_VD).to(dtype)
            if grad_weight_VD is not None:
                add_product(grad_weight_VD, g_CV.T, h_CD)
            if grad_bias_V is not None:
                grad_bias_V += g_CV.sum(dim=0)
        count = max(len(position_M), 1)
        grads = (grad_hidden_ND, grad_weight_VD, grad_bias_V)
        for grad in grads:
            if grad is not None:
                grad /= count
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype
        ctx.save_for_backward(*grads)
        return loss / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [
            None if t is None else (t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*saved, None, None, None, None, None)
