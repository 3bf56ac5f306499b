"""Tokens to the rows of their experts and back, in a fixed order: no capacity limit, no dropped or padded token.

Shape suffixes: N tokens, K experts per token, S = N·K rows sorted by expert, D width, E experts.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves a few of the functions called here without types.

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

EMBEDDING_BAG_DTYPES = (torch.float32, torch.float64)


class DispatchOrder(NamedTuple):
    """The row of every (token, choice) after sorting by expert.

    Attributes:
        order_S: the flat index ``n·K + k`` of row ``s``; the sort is stable, so the rows of an expert keep token order.
        row_S: the inverse: the row of ``n·K + k``.
        offsets_E: the end of each expert's rows, int32.
        top_k: K.
    """

    order_S: Tensor
    row_S: Tensor
    offsets_E: Tensor
    top_k: int


def sort_by_expert(experts_NK: Tensor, n_experts: int) -> DispatchOrder:
    """The stable order of all choices by expert, without synchronising with the GPU."""
    sorted_S, order_S = torch.sort(experts_NK.flatten(), stable=True)
    row_S = torch.empty_like(order_S)
    row_S[order_S] = torch.arange(order_S.shape[0], device=order_S.device)
    each_E = torch.arange(n_experts, device=sorted_S.device, dtype=sorted_S.dtype)
    offsets_E = torch.searchsorted(sorted_S, each_E, right=True, out_int32=True)
    return DispatchOrder(order_S, row_S, offsets_E, experts_NK.shape[1])


def dispatch(x_ND: Tensor, order: DispatchOrder) -> Tensor:
    """Each token's row once for each of its experts: ``(S, D)``, which is ``x[order // K]``."""
    return cast(Tensor, _Dispatch.apply(x_ND, order.order_S, order.row_S, order.top_k))


def combine(y_SD: Tensor, order: DispatchOrder) -> Tensor:
    """The sum over each token's rows ``(N, D)``: ``y[row].view(N, K, D).sum(1)``, in a fixed order on any device."""
    return cast(Tensor, _Combine.apply(y_SD, order.order_S, order.row_S, order.top_k))


def _rows(x_ND: Tensor, order_S: Tensor, top_k: int) -> Tensor:
    return x_ND.index_select(0, order_S if top_k == 1 else order_S // top_k)


def _sums(y_SD: Tensor, row_S: Tensor, top_k: int) -> Tensor:
    if top_k > 1 and y_SD.device.type == "cpu" and y_SD.dtype in EMBEDDING_BAG_DTYPES:
        # Sums the rows while reading them, in the same order, in a third of the time.
        return F.embedding_bag(row_S.view(-1, top_k), y_SD, mode="sum")
    y_ND = y_SD.index_select(0, row_S)
    return y_ND if top_k == 1 else y_ND.view(-1, top_k, y_SD.shape[1]).sum(dim=1)


class _Dispatch(Function):
    """Autograd's backward of an index adds rows in an order that CUDA does not fix; the inverse is known here."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, order_S: Tensor, row_S: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(row_S)
        ctx.top_k = top_k
        return _rows(x_ND, order_S, top_k)

    @staticmethod
    def backward(ctx: Any, dy_SD: Tensor) -> tuple[Tensor, None, None, None]:
        (row_S,) = ctx.saved_tensors
        return _sums(dy_SD, row_S, ctx.top_k), None, None, None


class _Combine(Function):
    """The transpose of ``_Dispatch``: the forward of one is the backward of the other."""

    @staticmethod
    def forward(ctx: Any, y_SD: Tensor, order_S: Tensor, row_S: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(order_S)
        ctx.top_k = top_k
        return _sums(y_SD, row_S, top_k)

    @staticmethod
    def backward(ctx: Any, dy_ND: Tensor) -> tuple[Tensor, None, None, None]:
        (order_S,) = ctx.saved_tensors
        return _rows(dy_ND, order_S, ctx.top_k), None, None, None
