"""One loss at several nested widths, so that the first numbers of an embedding are an embedding.

Matryoshka representation learning (Kusupati et al. 2022, arXiv:2205.13147) sums a loss over prefixes of the embedding::

    loss = sum(w * f(F.normalize(images[:, :d]), F.normalize(texts[:, :d])) for d, w in zip(dims, weights))

Written so, autograd keeps every width's tensors until the backward pass. Here each width's gradient is computed at once
and added into one sum per embedding, so the memory is that of the full width alone, however many widths there are.

Shape suffixes: B rows, D full width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import InputError


def matryoshka(
    loss: Callable[..., Tensor],
    embeddings: Sequence[Tensor],
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    *,
    parameters: Sequence[Tensor] = (),
    unit: bool = True,
) -> Tensor:
    """The weighted sum of a loss over prefixes of its embeddings.

    Two towers: ``matryoshka(sigmoid_loss, (images, texts), (64, 128, 256), parameters=(scale, bias))``. An output layer
    with one weight for all widths (the paper's MRL-E)::

        matryoshka(lambda h, w: linear_cross_entropy(h, w, target), (hidden, weight), (64, 256), unit=False)

    Under ``torch.compile`` it breaks the graph and runs as it is.

    Args:
        loss: ``loss(*prefixes, *parameters)`` gives one number. Over a ring, all processes must use equal dims.
        embeddings: tensors whose last dimension is nested.
        dims: the widths, each between 1 and the embeddings'; name the full width to include it.
        weights: of each width, 1 when left out.
        parameters: what else the loss learns (scale, bias). A tensor that the loss uses without being named here or in
            ``embeddings`` gets no gradient.
        unit: prefixes are made unit rows first.

    Raises:
        InputError: no widths, a width that the embeddings lack, or not one weight per width.
    """
    weights = [1.0] * len(dims) if weights is None else weights
    widest = min((e.shape[-1] for e in embeddings), default=0)
    if not dims or min(dims) < 1 or max(dims) > widest:
        raise InputError(f"widths {list(dims)} are no prefixes of embeddings of width {widest}", f"give 1 to {widest}")
    if len(weights) != len(dims):
        raise InputError(f"{len(weights)} weights do not fit {len(dims)} widths", "give one weight per width")
    plan = _Plan(loss, tuple(dims), tuple(weights), len(embeddings), unit, torch.is_grad_enabled())
    return cast(Tensor, _Nested.apply(plan, *embeddings, *parameters))  # type: ignore[no-untyped-call]  # torch leaves it without types


class _Plan:
    """What to compute; an object, because autograd looks into tuples for tensors."""

    def __init__(
        self,
        loss: Callable[..., Tensor],
        dims: tuple[int, ...],
        weights: tuple[float, ...],
        nested: int,
        unit: bool,
        learning: bool,
    ) -> None:
        self.loss, self.dims, self.weights = loss, dims, weights
        self.nested, self.unit, self.learning = nested, unit, learning

    def prefix(self, tensor: Tensor, dim: int) -> Tensor:
        return F.normalize(tensor[..., :dim], dim=-1) if self.unit else tensor[..., :dim]


class _Nested(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> Tensor:
        wanted = [plan.learning and need for need in ctx.needs_input_grad[1:]]
        leaves = [t.detach().requires_grad_(need) for t, need in zip(tensors, wanted, strict=True)]
        learnt = [leaf for leaf, need in zip(leaves, wanted, strict=True) if need]
        sums = [torch.zeros_like(leaf) for leaf in learnt]
        total: Tensor | None = None
        for dim, weight in zip(plan.dims, plan.weights, strict=True):
            with torch.set_grad_enabled(bool(learnt)):
                prefixes = [plan.prefix(leaf, dim) for leaf in leaves[: plan.nested]]
                value = weight * plan.loss(*prefixes, *leaves[plan.nested :])
            if learnt:
                for sum_, grad in zip(sums, torch.autograd.grad(value, learnt, allow_unused=True), strict=True):
                    if grad is not None:
                        sum_ += grad
            total = value.detach() if total is None else total + value.detach()
        assert total is not None
        kept = iter(sums)
        ctx.save_for_backward(*(next(kept) if need else None for need in wanted))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(None if t is None else (t * grad).to(t.dtype) for t in ctx.saved_tensors))
