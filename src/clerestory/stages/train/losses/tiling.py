"""Matrices too large for memory, processed a few rows at a time.

Shape suffixes: C rows of one tile, N columns, D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from clerestory.core.errors import InputError

# Entries of one tile: on a CPU it should fit the cache, on a GPU it should occupy all multiprocessors.
CPU_ENTRIES = 2**19
GPU_ENTRIES = 2**24


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of sums: float64 for float64, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def tile_rows(columns: int, device: torch.device, rows: int | None = None, min_rows: int = 16) -> int:
    """The number of rows of one tile.

    Args:
        columns: N.
        device: of the tile.
        rows: a fixed number; None to choose it by the device.
        min_rows: the minimum if it is chosen by the device.

    Raises:
        InputError: ``rows`` is below 1.
    """
    if rows is None:
        entries = CPU_ENTRIES if device.type == "cpu" else GPU_ENTRIES
        return max(min_rows, entries // max(columns, 1))
    if rows < 1:
        raise InputError(f"a tile cannot have {rows} rows", "give at least 1, or omit it")
    return rows


def spans(total: int, rows: int) -> Iterator[slice]:
    """Slices of at most ``rows`` that cover ``range(total)``."""
    for start in range(0, total, rows):
        yield slice(start, min(start + rows, total))


def product(a_CD: Tensor, b_DN: Tensor, factor: Tensor | None = None) -> Tensor:
    """``factor · a @ b`` in float32 (float64 stays); half-precision operands are multiplied as they are.

    A half-precision product is converted to float32 before it is multiplied by the factor, which could overflow in the
    type of the operands.
    """
    dtype = sum_dtype(a_CD.dtype)
    if a_CD.dtype == dtype:
        return (a_CD if factor is None else a_CD * factor) @ b_DN
    out_CN = (a_CD @ b_DN).to(dtype)
    return out_CN if factor is None else out_CN.mul_(factor)


def add_product(sum_CD: Tensor, a_CN: Tensor, b_ND: Tensor) -> None:
    """``sum += a @ b`` in place; ``a`` is converted to the type of ``b`` first, the sum keeps its type."""
    if b_ND.dtype == sum_CD.dtype:
        sum_CD.addmm_(a_CN, b_ND)
    else:
        sum_CD.add_(a_CN.to(b_ND.dtype) @ b_ND)
