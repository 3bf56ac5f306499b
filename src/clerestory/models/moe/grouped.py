"""One matrix for each expert, applied to its own consecutive rows; the only module that chooses a kernel.

``grouped_linear`` runs ``torch.nn.functional.grouped_mm`` wherever that accepts its inputs, and ``GroupedLinear``
everywhere else: double precision, widths not divisible by 16 bytes, older GPUs, ``torch.compile`` in fp32.

Shape suffixes: S rows sorted by expert, D width in, F width out, E experts.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves a few of the functions called here without types.

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ROW_ALIGNMENT = 16  # grouped_mm needs rows of a multiple of this many bytes
AMPERE = (8, 0)  # the oldest CUDA capability with a grouped_mm
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def grouped_linear(x_SD: Tensor, w_EFD: Tensor, offsets_E: Tensor, bias_EF: Tensor | None = None) -> Tensor:
    """Rows ``offsets[e - 1]:offsets[e]`` times the matrix of expert ``e``, plus its bias: ``(S, F)``.

    The oracle is ``torch.cat([x[a:b] @ w[e].T + bias[e] for e, (a, b) in …])``. Experts without rows are
    allowed, and so is an input without rows; every weight then gets a gradient of zeros, never None. Under autocast the
    inputs are cast as for a linear layer.

    Args:
        x_SD: rows sorted by expert.
        w_EFD: the experts' matrices.
        offsets_E: the end of each expert's rows, ascending to S; any integer dtype.
        bias_EF: the experts' biases.
    """
    if torch.is_autocast_enabled(x_SD.device.type):
        dtype = torch.get_autocast_dtype(x_SD.device.type)
        x_SD, w_EFD = x_SD.to(dtype), w_EFD.to(dtype)
        bias_EF = None if bias_EF is None else bias_EF.to(dtype)
    if x_SD.shape[0] == 0:
        # grouped_mm rejects this case; an empty product keeps every weight in the graph.
        y_SF = x_SD @ w_EFD[0].t()
    elif runs_natively(x_SD, w_EFD):
        native_SF = F.grouped_mm(x_SD.contiguous(), w_EFD.transpose(-2, -1), offs=offsets_E.to(torch.int32))
        y_SF = cast(Tensor, _PlainGradient.apply(native_SF))
    else:
        y_SF = cast(Tensor, GroupedLinear.apply(x_SD, w_EFD, offsets_E))
    if bias_EF is None:
        return y_SF
    rows_S = torch.arange(x_SD.shape[0], device=x_SD.device, dtype=offsets_E.dtype)
    expert_S = torch.searchsorted(offsets_E, rows_S, right=True)
    # A product with a one-hot matrix is exact and its gradient has a fixed summation order; that of an index has not.
    return y_SF + F.one_hot(expert_S, bias_EF.shape[0]).to(bias_EF.dtype) @ bias_EF


def runs_natively(x_SD: Tensor, w_EFD: Tensor) -> bool:
    """Whether ``grouped_mm`` accepts these inputs, forward and backward."""
    if not hasattr(F, "grouped_mm") or x_SD.dtype not in DTYPES or x_SD.dtype != w_EFD.dtype:
        return False
    if torch.compiler.is_compiling() and x_SD.dtype != torch.bfloat16:
        return False
    if x_SD.is_cuda and torch.cuda.get_device_capability(x_SD.device) < AMPERE:
        return False
    if not w_EFD.is_contiguous() or x_SD.device.type not in ("cpu", "cuda"):
        return False
    widths = (w_EFD.shape[1], w_EFD.shape[2])
    return not any(width * x_SD.element_size() % ROW_ALIGNMENT for width in widths)


class _PlainGradient(Function):
    """The identity with a contiguous gradient: grouped_mm rejects the strides of the gradient of ``sum``."""

    @staticmethod
    def forward(ctx: Any, y_SF: Tensor) -> Tensor:
        return y_SF.view_as(y_SF)

    @staticmethod
    def backward(ctx: Any, dy_SF: Tensor) -> Tensor:
        return dy_SF.contiguous()


class GroupedLinear(Function):
    """One product per expert, written directly into the result.

    A loop over ``w[e]`` under autograd would allocate the full gradient of ``w`` once for every expert; here each
    expert's slice is written in place.
    """

    @staticmethod
    def forward(ctx: Any, x_SD: Tensor, w_EFD: Tensor, offsets_E: Tensor) -> Tensor:
        """``(S, F)``; see ``grouped_linear``."""
        ends = offsets_E.tolist()
        if ends[-1] != x_SD.shape[0]:
            raise ValueError(f"the offsets end at row {ends[-1]}, but there are {x_SD.shape[0]} rows")
        y_SF = x_SD.new_empty(x_SD.shape[0], w_EFD.shape[1])
        start = 0
        for expert, end in enumerate(ends):
            if end > start:
                torch.mm(x_SD[start:end], w_EFD[expert].t(), out=y_SF[start:end])
            start = end
        ctx.save_for_backward(x_SD, w_EFD)
        ctx.ends = ends
        return y_SF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_SF: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of rows and matrices; a matrix without rows gets zeros."""
        x_SD, w_EFD = ctx.saved_tensors
        dx_SD = torch.empty_like(x_SD) if ctx.needs_input_grad[0] else None
        dw_EFD = torch.empty_like(w_EFD) if ctx.needs_input_grad[1] else None
        start = 0
        for expert, end in enumerate(ctx.ends):
            if end > start and dx_SD is not None:
                torch.mm(dy_SF[start:end], w_EFD[expert], out=dx_SD[start:end])
            if dw_EFD is not None:
                if end > start:
                    torch.mm(dy_SF[start:end].t(), x_SD[start:end], out=dw_EFD[expert])
                else:
                    dw_EFD[expert].zero_()
            start = end
        return dx_SD, dw_EFD, None
