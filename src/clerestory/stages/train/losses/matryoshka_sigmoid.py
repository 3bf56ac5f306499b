"""The sigmoid loss at several nested widths in one go: every product is made once, whatever the number of widths.

The similarities of a prefix are those of the next shorter one plus the product of the columns between them, divided by
the lengths of the prefixes; and a column's gradient is the sum over all prefixes that contain it. So the products cost
what the full width alone costs. The naive formula, the oracle of the tests::

    loss = 0
    for d, w in zip(dims, weights):
        loss += w * sigmoid_loss(F.normalize(images[:, :d]), F.normalize(texts[:, :d]), scale, bias)

Sources: Kusupati et al. 2022, "Matryoshka Representation Learning", arXiv:2205.13147, and Zhai et al. 2023, "Sigmoid
Loss for Language Image Pre-Training", arXiv:2303.15343.

Shape suffixes: B pictures and texts of this process, C rows of one tile, N texts of one block, D full width, K nested
widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import InputError
from clerestory.stages.train.losses.ring import ALONE, Block, Ring
from clerestory.stages.train.losses.tiling import add_product, product, spans, tile_rows, wide
from clerestory.stages.train.losses.validation import check, leave_out, scalar

SHORTEST = 1e-12


def nested_sigmoid_loss(
    images_BD: Tensor,
    texts_BD: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    *,
    own_B: Tensor | None = None,
    ring: Ring = ALONE,
    rows: int | None = None,
) -> Tensor:
    """Weighted sum of ``sigmoid_loss`` over prefixes made unit rows; saves 2·B·D floats and two numbers.

    Args:
        images_BD: embeddings of any length.
        texts_BD: each picture's own text, in the same order.
        scale: multiplies the similarities of every width.
        bias: added to the logits of every width.
        dims: the widths, rising, each between 1 and D; name D to include it.
        weights: of each width, 1 when left out.
        own_B: as in ``sigmoid_loss``.
        ring: as in ``sigmoid_loss``; texts go around once, not once per width.
        rows: of one tile; chosen by device when left out.

    Raises:
        InputError: the embeddings do not belong together, the widths do not rise or do not fit, or not one weight each.
    """
    check(images_BD, texts_BD, own_B)
    shares = [1.0] * len(dims) if weights is None else list(weights)
    if not dims or list(dims) != sorted({*dims}) or dims[0] < 1 or dims[-1] > images_BD.shape[1]:
        raise InputError(f"widths {list(dims)} are no rising prefixes", f"give widths from 1 to {images_BD.shape[1]}")
    if len(shares) != len(dims):
        raise InputError(f"{len(shares)} weights do not fit {len(dims)} widths", "give one weight per width")
    widths = [_Width(lo, hi, share) for lo, hi, share in zip((0, *dims[:-1]), dims, shares, strict=True)]
    job = _Job(tuple(widths), own_B, ring, rows)
    numbers = scalar(scale, images_BD), scalar(bias, images_BD)
    with torch.autocast(images_BD.device.type, enabled=False):
        out = _NestedSigmoid.apply(images_BD, texts_BD, *numbers, job, torch.is_grad_enabled())  # type: ignore[no-untyped-call]  # torch leaves it without types
    return cast(Tensor, out)


@dataclass(frozen=True)
class _Width:
    """The prefix that ends at column ``hi``; ``lo`` is where the next shorter one ends."""

    lo: int
    hi: int
    share: float

    @property
    def new(self) -> slice:
        return slice(self.lo, self.hi)


@dataclass(frozen=True, eq=False)
class _Job:
    widths: tuple[_Width, ...]
    own_B: Tensor | None
    ring: Ring
    rows: int | None

    def inverse_lengths(self, rows_BD: Tensor) -> Tensor:
        """One over the length of every prefix: ``(K, B)``."""
        kept = wide(rows_BD.dtype)
        square_KB = torch.stack([rows_BD[:, w.new].to(kept).square().sum(dim=1) for w in self.widths]).cumsum(dim=0)
        return square_KB.sqrt_().clamp_(min=SHORTEST).reciprocal_()

    def grow(self, s_CN: Tensor | None, a_CD: Tensor, b_ND: Tensor, width: _Width) -> Tensor:
        """Products of a prefix from those of the next shorter one, in place."""
        if s_CN is None:
            return product(a_CD[:, width.new], b_ND[:, width.new].T)
        add_product(s_CN, a_CD[:, width.new], b_ND[:, width.new].T)
        return s_CN

    def gather(self, sum_CD: Tensor, g_KCN: list[Tensor], other_ND: Tensor) -> None:
        """Add the gradient of every column; ``g_KCN[k]`` is summed over width k and all longer ones."""
        for width, g_CN in zip(self.widths, g_KCN, strict=True):
            add_product(sum_CD[:, width.new], g_CN, other_ND[:, width.new])

    def undo_lengths(self, grad_BD: Tensor, rows_BD: Tensor, back_KB: Tensor, inverse_KB: Tensor) -> None:
        """What dividing by the lengths takes from the gradient of each row."""
        for width, back_B in zip(self.widths, back_KB * inverse_KB.square(), strict=True):
            grad_BD[:, : width.hi] -= rows_BD[:, : width.hi] * back_B[:, None]


class _Found:
    """What one process finds out about its own pictures, and the two numbers."""

    def __init__(self, images_BD: Tensor, widths: int) -> None:
        kept = wide(images_BD.dtype)
        self.loss = images_BD.new_zeros((), dtype=kept)
        self.by_bias = self.loss.clone()
        self.grad_BD = images_BD.new_zeros(images_BD.shape, dtype=kept)
        self.back_KB = images_BD.new_zeros((widths, len(images_BD)), dtype=kept)


class _NestedSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images_BD: Tensor, texts_BD: Tensor, scale: Tensor, bias: Tensor, job: _Job, learning: bool
    ) -> Tensor:
        wanted = [learning and need for need in ctx.needs_input_grad[:4]]
        count, inverse_KB = len(images_BD), job.inverse_lengths(images_BD)
        found = _Found(images_BD, len(job.widths))
        step = tile_rows(2 * count, images_BD.device, job.rows)

        def work(block: Block, owner: int) -> Block:
            texts_ND, home = block[0], owner == job.ring.rank
            there_KN = job.inverse_lengths(texts_ND)
            grad_ND = torch.zeros_like(texts_ND, dtype=there_KN.dtype)
            back_KN = torch.zeros_like(there_KN)
            for part in spans(count, step):
                s_CN: Tensor | None = None
                g_KCN: list[Tensor] = []
                for k, width in enumerate(job.widths):
                    s_CN = job.grow(s_CN, images_BD[part], texts_ND, width)
                    here_C1 = inverse_KB[k, part, None]
                    z_CN = torch.addcmul(bias, s_CN * (scale * here_C1), there_KN[k])
                    leave_out(z_CN, job.own_B, block, part, home)
                    g_CN = _pull(z_CN, found, part.start if home else None, width.share, any(wanted))
                    if not any(wanted):
                        continue
                    g_CN.mul_(width.share * here_C1).mul_(there_KN[k])
                    r_CN = g_CN * s_CN
                    found.back_KB[k, part] += r_CN.sum(dim=1)
                    back_KN[k] += r_CN.sum(dim=0)
                    g_KCN.append(g_CN)
                for k in range(len(g_KCN) - 2, -1, -1):
                    g_KCN[k] += g_KCN[k + 1]
                if wanted[0]:
                    job.gather(found.grad_BD[part], g_KCN, texts_ND)
                if wanted[1]:
                    job.gather(grad_ND, [g_CN.T for g_CN in g_KCN], images_BD[part])
            return (grad_ND, back_KN) if wanted[1] else ()

        block = (texts_BD.detach(),) if job.own_B is None else (texts_BD.detach(), job.own_B)
        home_again = job.ring.travel(block, work, torch.add)
        saved: list[Tensor | None] = [None, None, None, None]
        if wanted[0]:
            job.undo_lengths(found.grad_BD, images_BD, found.back_KB, inverse_KB)
            saved[0] = found.grad_BD.mul_(scale / count)
        if wanted[1]:
            job.undo_lengths(home_again[0], texts_BD, home_again[1], job.inverse_lengths(texts_BD))
            saved[1] = home_again[0].mul_(scale / count)
        if wanted[2]:
            saved[2] = found.back_KB.sum() / count
        if wanted[3]:
            saved[3] = found.by_bias / count
        ctx.dtypes = images_BD.dtype, texts_BD.dtype, scale.dtype, bias.dtype
        ctx.save_for_backward(*saved)
        return found.loss / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [
            None if t is None else (t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*saved, None, None)


def _pull(z_CN: Tensor, found: _Found, diagonal: int | None, share: float, learning: bool) -> Tensor:
    """Add the loss of some logits; returns its gradient with respect to them, without the share, in their place."""
    total = F.softplus(z_CN).sum()
    if diagonal is not None:
        total = total - z_CN.diagonal(diagonal).sum()
    found.loss = found.loss + share * total
    if learning:
        z_CN.sigmoid_()
        if diagonal is not None:
            z_CN.diagonal(diagonal).sub_(1)
        found.by_bias = found.by_bias + share * z_CN.sum()
    return z_CN
