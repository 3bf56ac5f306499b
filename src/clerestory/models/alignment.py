"""Loaded weights in memory with the alignment of torch's own allocations.

The address of a tensor read from a safetensors file depends on the length of the file's header, and is often not a
multiple of 64 bytes. BLAS libraries choose different kernels for such addresses, which round differently: the outputs
of a saved and reloaded model would differ in the last bits. Every function that reads weights therefore calls one of
these two functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

ALIGNMENT = 64  # bytes, of every allocation of torch on a CPU

Network = TypeVar("Network", bound=nn.Module)


def aligned(tensor: Tensor) -> Tensor:
    """The tensor itself if its address is a multiple of ``ALIGNMENT``, otherwise an aligned copy."""
    return tensor.clone() if _addressable(tensor) and tensor.data_ptr() % ALIGNMENT else tensor


@torch.no_grad()
def align_parameters(network: Network) -> Network:
    """Move every parameter and buffer whose address is not a multiple of ``ALIGNMENT``; returns the network.

    The tensors remain the same objects with the same values, dtype, strides and ``requires_grad``. Tensors that overlap
    in memory (tied weights, views) move together and keep their offset, so a view into the middle of another tensor
    has an aligned address only if its offset is a multiple of ``ALIGNMENT``. Tensors outside the CPU's memory do not
    move.
    """
    for group in _overlapping(t for t in chain(network.parameters(), network.buffers()) if _addressable(t)):
        if group[0].data_ptr() % ALIGNMENT:
            _move(group)
    return network


def _addressable(tensor: Tensor) -> bool:
    plain = type(tensor.data) is Tensor and tensor.layout is torch.strided and not tensor.is_quantized
    return plain and tensor.device.type == "cpu" and tensor.numel() > 0


def _extent(tensor: Tensor) -> int:
    """Bytes from the first to the end of the last element."""
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def _overlapping(tensors: Iterator[Tensor]) -> list[list[Tensor]]:
    """Groups of tensors that overlap in memory, each in the order of addresses."""
    groups: list[list[Tensor]] = []
    end = 0
    for tensor in sorted(tensors, key=lambda t: t.data_ptr()):
        if not groups or tensor.data_ptr() >= end:
            groups.append([])
        groups[-1].append(tensor)
        end = max(end, tensor.data_ptr() + _extent(tensor))
    return groups


def _move(group: list[Tensor]) -> None:
    """Move a group to new memory; bytes are copied, so strides do not change."""
    first = group[0]
    # A tensor must begin at a multiple of its element size, counted from the start of the new memory.
    widest = max(t.element_size() for t in group)
    origin = first.data_ptr() - (first.data_ptr() - first.untyped_storage().data_ptr()) % widest
    memory = torch.empty(max(t.data_ptr() + _extent(t) for t in group) - origin, dtype=torch.uint8)
    moved = []
    for tensor in group:
        start, extent, size = tensor.data_ptr() - origin, _extent(tensor), tensor.element_size()
        old = torch.empty(0, dtype=torch.uint8)
        old.set_(tensor.untyped_storage(), tensor.storage_offset() * size, (extent,), (1,))
        memory[start : start + extent].copy_(old)
        new = torch.empty(0, dtype=tensor.dtype)
        moved.append(new.set_(memory.untyped_storage(), start // size, tensor.shape, tensor.stride()))
    for tensor, new in zip(group, moved, strict=True):
        tensor.data = new
