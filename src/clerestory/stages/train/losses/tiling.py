"""Matrices too large to hold, worked off a few rows at a time.

Shape suffixes: C rows of one tile, N columns, D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from clerestory.core.errors import InputError

# Entries of one tile. A CPU's tile should stay in its cache; a GPU's should keep all its processors busy.
CPU_ENTRIES = 2**19
GPU_ENTRIES = 2**24


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which sums are kept: float64 stays, everything else becomes float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def tile_rows(columns: int, device: torch.device, rows: int | None = None, least: int = 16) -> int:
    """How many rows of a matrix with so many columns are worked on at once.

    Args:
        columns: N of the matrix that is never held.
        device: where it would be.
        rows: what the caller wants; None leaves the choice to this function.
        least: the fewest to choose, however many the columns.

    Raises:
        InputError: ``rows`` is below 1.
    """
    if rows is None:
        entries = CPU_ENTRIES if device.type == "cpu" else GPU_ENTRIES
        return max(least, entries // max(columns, 1))
    if rows < 1:
        raise InputError(f"a tile cannot have {rows} rows", "give 1 or more, or leave it out")
    return rows


def spans(total: int, rows: int) -> Iterator[slice]:
    """Slices of at most ``rows`` that cover ``range(total)``."""
    for start in range(0, total, rows):
        yield slice(start, min(start + rows, total))


def product(a_CD: Tensor, b_DN: Tensor, factor: Tensor | None = None) -> Tensor:
    """``factor · a @ b`` in float32 (float64 stays); half-precision operands are multiplied as they are.

    The factor meets a half-precision product after its rounding to float32, so it does not magnify what the
    operands' own type cannot hold.
    """
    kept = wide(a_CD.dtype)
    if a_CD.dtype == kept:
        return (a_CD if factor is None else a_CD * factor) @ b_DN
    out_CN = (a_CD @ b_DN).to(kept)
    return out_CN if factor is None else out_CN.mul_(factor)


def add_product(sum_CD: Tensor, a_CN: Tensor, b_ND: Tensor) -> None:
    """``sum += a @ b`` in place; ``a`` takes the type of ``b`` first, the sum keeps its own."""
    if b_ND.dtype == sum_CD.dtype:
        sum_CD.addmm_(a_CN, b_ND)
    else:
        sum_CD.add_(a_CN.to(b_ND.dtype) @ b_ND)
