"""The plain formulas, and how many bytes autograd keeps for the backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode


def naive_sigmoid(images_BD: Tensor, texts_BD: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    s_BB = scale * images_BD @ texts_BD.T + bias
    z_BB = 2 * torch.eye(len(images_BD), dtype=s_BB.dtype) - 1
    return -F.logsigmoid(z_BB * s_BB).sum() / len(images_BD)


def naive_softmax(images_BD: Tensor, texts_BD: Tensor, scale: Tensor | float) -> Tensor:
    s_BB = scale * images_BD @ texts_BD.T
    caption_B = torch.arange(len(images_BD))
    return (F.cross_entropy(s_BB, caption_B) + F.cross_entropy(s_BB.T, caption_B)) / 2


def unit_pairs(count: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Texts that resemble their pictures a little, as in the middle of training; leaves that want gradients."""
    draw = torch.Generator().manual_seed(seed)
    images_BD = F.normalize(torch.randn(count, width, generator=draw, dtype=dtype), dim=1)
    texts_BD = F.normalize(0.3 * images_BD + torch.randn(count, width, generator=draw, dtype=dtype) / width**0.5, dim=1)
    return images_BD.requires_grad_(), texts_BD.requires_grad_()


class _Kept:
    """A tensor that waits for the backward pass; gone as soon as its graph is."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes that wait for the backward pass once ``run`` is done, storages counted once."""
    alive: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Kept:
        kept = _Kept(tensor)
        alive.add(kept)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        out = run()
    storages = {s.data_ptr(): s.nbytes() for s in (kept.tensor.untyped_storage() for kept in alive)}
    del out  # the graph had to live until here
    return sum(storages.values())


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it without types
    """Remembers the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's signature
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(made, Tensor):
                self.numbers = max(self.numbers, made.numel())
        return out


def gap(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest relative distance of two lists of gradients, each measured by its norm."""
    distances = [
        (a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-12) for a, b in zip(got, wanted, strict=True)
    ]
    return float(torch.stack(distances).max())
