"""A loss at several nested widths, so that a prefix of an embedding is an embedding, too.

Matryoshka representation learning (Kusupati et al. 2022, arXiv:2205.13147) sums a loss over prefixes of the embedding::

    loss = sum(w * f(F.normalize(images[:, :d]), F.normalize(texts[:, :d])) for d, w in zip(dims, weights))

Written like this, autograd keeps the tensors of every width until the backward pass. Here the gradient of each width is
computed at once and accumulated, so the memory is that of the full width alone, for any number of widths.

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

    With two towers: ``matryoshka(sigmoid_loss, (images, texts), (64, 128, 256), parameters=(scale, bias))``. With an
    output layer shared by all widths (MRL-E in the paper)::

        matryoshka(lambda h, w: linear_cross_entropy(h, w, target), (hidden, weight), (64, 256), unit=False)

    Under ``torch.compile`` it breaks the graph and runs eagerly.

    Args:
        loss: ``loss(*prefixes, *parameters)`` returns a scalar. Over a ring, all processes must use the same dims.
        embeddings: tensors whose last dimension is nested.
        dims: the widths, each between 1 and the full width, which must be named to be included.
        weights: of each width; 1 by default.
        parameters: trained parameters of the loss (scale, bias). A tensor that the loss uses but that is neither here
            nor in ``embeddings`` gets no gradient.
        unit: whether to normalise the prefixes to unit rows.

    Raises:
        InputError: there are no widths, a width is outside the embeddings, or the numbers of weights and widths differ.
    """
    weights = [1.0] * len(dims) if weights is None else weights
    widest = min((e.shape[-1] for e in embeddings), default=0)
    if not dims or min(dims) < 1 or max(dims) > widest:
        raise InputError(f"the widths {list(dims)} do not fit embeddings of width {widest}", f"give 1 to {widest}")
    if len(weights) != len(dims):
        raise InputError(f"there are {len(weights)} weights for {len(dims)} widths", "give one weight per width")
    arguments = _Arguments(loss, tuple(dims), tuple(weights), len(embeddings), unit, torch.is_grad_enabled())
    return cast(Tensor, _Matryoshka.apply(arguments, *embeddings, *parameters))  # type: ignore[no-untyped-call]  # torch leaves it without types


class _Arguments:
    """The arguments; an object, because autograd searches tuples for tensors."""

    def __init__(
        self,
        loss: Callable[..., Tensor],
        dims: tuple[int, ...],
        weights: tuple[float, ...],
        num_embeddings: int,
        unit: bool,
        grad_enabled: bool,
    ) -> None:
        self.loss, self.dims, self.weights = loss, dims, weights
        self.num_embeddings, self.unit, self.grad_enabled = num_embeddings, unit, grad_enabled

    def prefix(self, tensor: Tensor, dim: int) -> Tensor:
        return F.normalize(tensor[..., :dim], dim=-1) if self.unit else tensor[..., :dim]


class _Matryoshka(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, arguments: _Arguments, *tensors: Tensor) -> Tensor:
        needs_grad = [arguments.grad_enabled and need for need in ctx.needs_input_grad[1:]]
        leaves = [t.detach().requires_grad_(need) for t, need in zip(tensors, needs_grad, strict=True)]
        trained = [leaf for leaf, need in zip(leaves, needs_grad, strict=True) if need]
        sums = [torch.zeros_like(leaf) for leaf in trained]
        total: Tensor | None = None
        for dim, weight in zip(arguments.dims, arguments.weights, strict=True):
            with torch.set_grad_enabled(bool(trained)):
                prefixes = [arguments.prefix(leaf, dim) for leaf in leaves[: arguments.num_embeddings]]
                value = weight * arguments.loss(*prefixes, *leaves[arguments.num_embeddings :])
            if trained:
                for sum_, grad in zip(sums, torch.autograd.grad(value, trained, allow_unused=True), strict=True):
                    if grad is not None:
                        sum_ += grad
            total = value.detach() if total is None else total + value.detach()
        assert total is not None
        grads = iter(sums)
        ctx.save_for_backward(*(next(grads) if need else None for need in needs_grad))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(None if t is None else (t * grad).to(t.dtype) for t in ctx.saved_tensors))
