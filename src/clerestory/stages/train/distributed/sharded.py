"""Tensors of which each rank holds a part (``DTensor``), beside plain ones."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor on this rank; every rank has to ask at the same time. A plain tensor is itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """This rank's part of a plain tensor that all ranks have, cut as ``other`` is; itself where that is plain."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)
