"""The numbers of a record, worked out from tensors: cheap, without gradients, and without touching any random state.

Shape suffixes: B pictures of the batch, E shared space, L caption positions, V vocabulary, N tokens, D width, S shown
side of a thumbnail, M and K pictures of two sets.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

THUMBNAIL = 8
SAME = 0.01  # root mean square difference of thumbnails in 0..1; copies resized or saved anew stay below
DEAD = 0.02  # of a fair share


class Spread(NamedTuple):
    """How much room a batch of embeddings takes.

    Attributes:
        deviation: standard deviation per dimension times √E: 1 for unit rows in all directions, 0 for equal rows.
        cosine: mean cosine of two different rows.
        rank: participation ratio (Σλ)² / Σλ² of the principal variances λ: how many directions are used about evenly.
    """

    deviation: float
    cosine: float
    rank: float


@torch.no_grad()
def spread(rows_BE: Tensor) -> Spread:
    """Of unit rows; B×B work, whatever E is."""
    rows_BE = rows_BE.detach().float()
    size = len(rows_BE)
    if not bool(rows_BE.isfinite().all()):  # such a step is skipped and counted; there is nothing to see in it
        return Spread(math.nan, math.nan, math.nan)
    if size < 2:
        return Spread(0.0, 1.0, 1.0)
    gram_BB = rows_BE @ rows_BE.T
    cosine = float((gram_BB.sum() - gram_BB.trace()) / (size * (size - 1)))
    centred_BE = rows_BE - rows_BE.mean(dim=0)
    total = float(centred_BE.square().sum())
    deviation = math.sqrt(total / (size - 1))
    # (Σλ)² / Σλ² without the eigenvalues: the trace and the Frobenius norm of the same matrix.
    squares = float((centred_BE @ centred_BE.T).square().sum())
    return Spread(deviation, cosine, total * total / squares if squares > 0 else 1.0)


@torch.no_grad()
def share_found(images_BE: Tensor, texts_BE: Tensor, own_B: Tensor) -> float:
    """Share of pictures nearer to their own text than to every other text of the batch; a tie is not nearer.

    Args:
        images_BE: unit rows.
        texts_BE: unit rows, in the same order.
        own_B: which caption each has; another picture's equal caption is no wrong answer.
    """
    similar_BB = images_BE.detach() @ texts_BE.detach().T
    same_BB = own_B[:, None] == own_B[None]
    best_other_B = similar_BB.masked_fill(same_BB, -torch.inf).amax(dim=1)
    return float((similar_BB.diagonal() > best_other_B).float().mean())


def guessing_loss(batch: int, bank: int = 0, nested: float = 0.0) -> float:
    """Softmax contrastive loss of a model whose similarities are all equal, both directions averaged.

    Args:
        batch: B, the number of texts and pictures to choose from.
        bank: further texts that a picture has to tell its own from.
        nested: weight of the same loss over the shorter embeddings.
    """
    return 0.5 * (math.log(batch + max(0, bank - 1)) + math.log(batch)) * (1 + nested)


class Blindness(NamedTuple):
    """What the pictures are worth to the caption decoder.

    Attributes:
        seeing: mean loss of a caption with its own picture.
        blind: the same with another caption's picture.
        error: standard error of their difference.
        n: captions.
    """

    seeing: float
    blind: float
    error: float
    n: int


@torch.no_grad()
def blindness(seeing_BLV: Tensor, blind_BLV: Tensor, ids_BL: Tensor, pad: int) -> Blindness:
    """From the logits with the right and with exchanged pictures; logits at ``l`` predict word ``l + 1``."""
    own_B, other_B = (_per_caption(logits, ids_BL, pad) for logits in (seeing_BLV, blind_BLV))
    difference_B = other_B - own_B
    size = len(difference_B)
    error = float(difference_B.std()) / math.sqrt(size) if size > 1 else math.inf
    return Blindness(float(own_B.mean()), float(other_B.mean()), error, size)


def _per_caption(logits_BLV: Tensor, ids_BL: Tensor, pad: int) -> Tensor:
    target = ids_BL[:, 1:]
    loss = F.cross_entropy(logits_BLV[:, :-1].float().transpose(1, 2), target, ignore_index=pad, reduction="none")
    return loss.sum(dim=1) / (target != pad).sum(dim=1).clamp(min=1)


class Loads(NamedTuple):
    """How the tokens are shared among the experts.

    Attributes:
        experts: experts in a layer.
        least, most: load of the least and most used one of any layer; 1 is a fair share.
        dead: experts with less than a fiftieth of a fair share, in the layer that has most of them.
    """

    experts: int
    least: float
    most: float
    dead: int


def loads(counts: Sequence[Sequence[float]]) -> Loads | None:
    """From the number of tokens that visited each expert, layer by layer; None without experts or tokens."""
    fair = [[len(layer) * n / sum(layer) for n in layer] for layer in counts if sum(layer) > 0]
    if not fair:
        return None
    return Loads(
        experts=max(len(layer) for layer in fair),
        least=min(min(layer) for layer in fair),
        most=max(max(layer) for layer in fair),
        dead=max(sum(load < DEAD for load in layer) for layer in fair),
    )


def length(tensors: Iterable[Tensor]) -> float:
    """Euclidean length of all tensors together."""
    found = [tensor.detach() for tensor in tensors]
    return float(torch.stack(torch._foreach_norm(found)).float().norm()) if found else 0.0


def same_share(ids: NDArray[np.int64]) -> float:
    """Share of a batch that repeats an earlier row of it; ``ids`` are equal where pictures are."""
    return 1.0 - len(np.unique(ids)) / len(ids) if len(ids) else 0.0


def picture_ids(pixels_NHWC: Tensor) -> NDArray[np.int64]:
    """A number for each picture, equal for pictures that are equal in every pixel, ``(N,)``."""
    numbers: dict[bytes, int] = {}
    rows = pixels_NHWC.cpu().numpy()
    out = np.empty(len(rows), np.int64)
    for i, row in enumerate(rows):
        out[i] = numbers.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), i)
    return out


@torch.no_grad()
def share_leaked(train_MHWC: Tensor, val_KHWC: Tensor, block: int = 512) -> float:
    """Share of the validation pictures of which a training picture is the same, be it resized or saved anew.

    Thumbnails of 8×8 pixels are compared; plain pictures (all one colour) are left out, as they are all alike.
    """
    train_MS, val_KS = _thumbnails(train_MHWC), _thumbnails(val_KHWC)
    plain_K = val_KS.view(len(val_KS), -1, 3).std(dim=1).amax(dim=1) < SAME
    square_M = train_MS.square().sum(dim=1)
    width = train_MS.shape[1]
    found = 0
    for start in range(0, len(val_KS), block):
        part = val_KS[start : start + block]
        nearest = (part.square().sum(dim=1)[:, None] + square_M - 2 * part @ train_MS.T).amin(dim=1)
        found += int(((nearest.clamp(min=0) / width).sqrt() < SAME).logical_and(~plain_K[start : start + block]).sum())
    return found / len(val_KS) if len(val_KS) else 0.0


def _thumbnails(pixels_NHWC: Tensor, block: int = 2048) -> Tensor:
    """``(N, 8·8·3)`` in 0..1."""
    done = [torch.empty(0, THUMBNAIL**2 * 3)]
    for start in range(0, len(pixels_NHWC), block):
        part = pixels_NHWC[start : start + block].permute(0, 3, 1, 2).float() / 255
        small = F.interpolate(part, size=(THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True, align_corners=False)
        done.append(small.permute(0, 2, 3, 1).flatten(1))
    return torch.cat(done)
