"""The metrics of a step record, computed from tensors: cheap, without gradients, and without changing any random state.

Shape suffixes: B images of the batch, E shared space, L caption positions, V vocabulary, S pixels of a thumbnail,
M and K images of two sets.
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

from clerestory.models.moe.balancing import DEAD_LOAD_FRACTION

THUMBNAIL_SIDE = 8
MAX_COPY_DIFFERENCE = 0.01  # root mean square difference of thumbnails in 0..1; of resized or re-encoded copies


class EmbeddingSpread(NamedTuple):
    """The spread of a batch of embeddings.

    Attributes:
        std: standard deviation per dimension times √E: 1 for unit rows in all directions, 0 for equal rows.
        cosine: mean cosine of two different rows.
        rank: effective rank, as the participation ratio (Σλ)² / Σλ² of the principal variances λ.
    """

    std: float
    cosine: float
    rank: float


@torch.no_grad()
def embedding_spread(rows_BE: Tensor) -> EmbeddingSpread:
    """The spread of unit rows; O(B²·E) time, O(B²) memory."""
    rows_BE = rows_BE.detach().float()
    size = len(rows_BE)
    if not bool(rows_BE.isfinite().all()):  # such a step is skipped and counted
        return EmbeddingSpread(math.nan, math.nan, math.nan)
    if size < 2:
        return EmbeddingSpread(0.0, 1.0, 1.0)
    gram_BB = rows_BE @ rows_BE.T
    cosine = float((gram_BB.sum() - gram_BB.trace()) / (size * (size - 1)))
    centred_BE = rows_BE - rows_BE.mean(dim=0)
    total = float(centred_BE.square().sum())
    std = math.sqrt(total / (size - 1))
    # (Σλ)² / Σλ² without the eigenvalues: the trace and the Frobenius norm of the same matrix.
    squares = float((centred_BE @ centred_BE.T).square().sum())
    return EmbeddingSpread(std, cosine, total * total / squares if squares > 0 else 1.0)


@torch.no_grad()
def batch_accuracy(images_BE: Tensor, texts_BE: Tensor, captions_B: Tensor) -> float:
    """Share of images more similar to their own text than to every other text of the batch; a tie does not count.

    Args:
        images_BE: unit rows.
        texts_BE: unit rows, in the same order.
        captions_B: the caption number of each image; another image's equal caption is not a negative.
    """
    similar_BB = images_BE.detach() @ texts_BE.detach().T
    same_BB = captions_B[:, None] == captions_B[None]
    best_negative_B = similar_BB.masked_fill(same_BB, -torch.inf).amax(dim=1)
    return float((similar_BB.diagonal() > best_negative_B).float().mean())


def chance_loss(batch: int, bank: int = 0, nested: float = 0.0) -> float:
    """Softmax contrastive loss when all similarities are equal, averaged over both directions.

    Args:
        batch: B, the number of texts and images to choose from.
        bank: further negative texts for each image.
        nested: weight of the same loss over the shorter embeddings.
    """
    return 0.5 * (math.log(batch + max(0, bank - 1)) + math.log(batch)) * (1 + nested)


class CaptionGrounding(NamedTuple):
    """How much the caption decoder uses the images.

    Attributes:
        loss: mean loss of a caption with its own image.
        shuffled: the same with the image of another caption.
        error: standard error of their difference.
        n: captions.
    """

    loss: float
    shuffled: float
    error: float
    n: int


@torch.no_grad()
def caption_grounding(own_BLV: Tensor, shuffled_BLV: Tensor, ids_BL: Tensor, pad: int) -> CaptionGrounding:
    """From the logits with their own and with shuffled images; logits at ``l`` predict token ``l + 1``."""
    own_B, shuffled_B = (_per_caption(logits, ids_BL, pad) for logits in (own_BLV, shuffled_BLV))
    difference_B = shuffled_B - own_B
    size = len(difference_B)
    error = float(difference_B.std()) / math.sqrt(size) if size > 1 else math.inf
    return CaptionGrounding(float(own_B.mean()), float(shuffled_B.mean()), error, size)


def _per_caption(logits_BLV: Tensor, ids_BL: Tensor, pad: int) -> Tensor:
    target = ids_BL[:, 1:]
    loss = F.cross_entropy(logits_BLV[:, :-1].float().transpose(1, 2), target, ignore_index=pad, reduction="none")
    return loss.sum(dim=1) / (target != pad).sum(dim=1).clamp(min=1)


class ExpertLoads(NamedTuple):
    """How the tokens are distributed over the experts.

    Attributes:
        experts: experts in a layer.
        min, max: load of the least and the most used expert of any layer; 1 is an equal share.
        dead: experts with less than ``DEAD_LOAD_FRACTION`` of an equal share, in the layer that has most of them.
    """

    experts: int
    min: float
    max: float
    dead: int


def expert_loads(counts: Sequence[Sequence[float]]) -> ExpertLoads | None:
    """From the number of tokens that each expert received, layer by layer; None without experts or tokens."""
    shares = [[len(layer) * n / sum(layer) for n in layer] for layer in counts if sum(layer) > 0]
    if not shares:
        return None
    return ExpertLoads(
        experts=max(len(layer) for layer in shares),
        min=min(min(layer) for layer in shares),
        max=max(max(layer) for layer in shares),
        dead=max(sum(load < DEAD_LOAD_FRACTION for load in layer) for layer in shares),
    )


def global_norm(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of all tensors together."""
    detached = [tensor.detach() for tensor in tensors]
    return float(torch.stack(torch._foreach_norm(detached)).float().norm()) if detached else 0.0


def duplicate_share(ids: NDArray[np.int64]) -> float:
    """Share of a batch that repeats an earlier row of it; ``ids`` are equal where images are."""
    return 1.0 - len(np.unique(ids)) / len(ids) if len(ids) else 0.0


def image_ids(pixels_NHWC: Tensor) -> NDArray[np.int64]:
    """A number for each image, equal for images that are equal in every pixel, ``(N,)``."""
    numbers: dict[bytes, int] = {}
    rows = pixels_NHWC.cpu().numpy()
    out = np.empty(len(rows), np.int64)
    for i, row in enumerate(rows):
        out[i] = numbers.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), i)
    return out


@torch.no_grad()
def leaked_share(train_MHWC: Tensor, val_KHWC: Tensor, block: int = 512) -> float:
    """Share of the validation images that are also training images, resized and re-encoded copies included.

    Thumbnails of 8×8 pixels are compared; images of a single colour are ignored.
    """
    train_MS, val_KS = _thumbnails(train_MHWC), _thumbnails(val_KHWC)
    plain_K = val_KS.view(len(val_KS), -1, 3).std(dim=1).amax(dim=1) < MAX_COPY_DIFFERENCE
    square_M = train_MS.square().sum(dim=1)
    width = train_MS.shape[1]
    leaked = 0
    for start in range(0, len(val_KS), block):
        part = val_KS[start : start + block]
        nearest = (part.square().sum(dim=1)[:, None] + square_M - 2 * part @ train_MS.T).amin(dim=1)
        leaked += int(
            ((nearest.clamp(min=0) / width).sqrt() < MAX_COPY_DIFFERENCE)
            .logical_and(~plain_K[start : start + block])
            .sum()
        )
    return leaked / len(val_KS) if len(val_KS) else 0.0


def _thumbnails(pixels_NHWC: Tensor, block: int = 2048) -> Tensor:
    """``(N, 8·8·3)`` in 0..1."""
    blocks = [torch.empty(0, THUMBNAIL_SIDE**2 * 3)]
    for start in range(0, len(pixels_NHWC), block):
        part = pixels_NHWC[start : start + block].permute(0, 3, 1, 2).float() / 255
        small = F.interpolate(
            part, size=(THUMBNAIL_SIDE, THUMBNAIL_SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        blocks.append(small.permute(0, 2, 3, 1).flatten(1))
    return torch.cat(blocks)
