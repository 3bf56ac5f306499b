"""Fits a head by ridge regression, and measures what it gains on images that it was not fitted on.

A head predicts, from the features of an image, the mean direction of its captions. Its prediction is mixed with the
embedding that the encoder has without it. How much of each is chosen by the ranks of the captions' own images, with
leave-one-out predictions: with few captions nearly everything comes from the encoder.

A few steps with a contrastive loss follow, which tells the captions of one image from those of the others: worth 0.04
of image→text recall@10 and 0.015 of text→image recall@10 with 400 or 800 photographs. More steps than these forget
what the penalty of the regression was for.

The gain is measured on the same images in folds: each image is embedded by the head of the other folds, and near-
duplicates are in one fold. Every image is a candidate for every caption.

Shape suffixes: N images, M captions, F features, D width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from clerestory.models.photo.space import Floats, LinearHead, PhotoSpace, unit_rows
from clerestory.stages.train.tune.head.requirements import NUM_FOLDS
from clerestory.stats.ranking import best_ranks
from clerestory.stats.ridge import fit_ridge

Ints = NDArray[np.int64]

SHARES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)  # of the encoder; with 1 the head is not used
MAX_RANKED, MAX_QUERIES = 1_000, 1_600  # images, and captions ranked among them, to choose a share
# Of the contrastive loss. The size of a step is a share of the root mean square of the weights.
NUM_STEPS, STEP_SIZE, LOGIT_SCALE, FEATURE_DROPOUT = 16, 0.08, 20.0, 0.1
EQUAL_CAPTIONS = 0.9999  # cosine
MAX_BATCH = 2_048  # images in a step
SEED = 0
NEAR_DUPLICATE = 0.8  # cosine of centred features: bursts and crops of one scene


@dataclass(frozen=True, slots=True)
class HeadData:
    """What a head is fitted on.

    Attributes:
        features: of the images ``(N, F)``.
        embeddings: of the images without the head, unit rows ``(N, D)``.
        directions: of the captions, unit rows ``(M, D)``: what is predicted.
        texts: of the captions as they are searched with ``(M, D)``.
        owner: the image of each caption (M).
        groups: the number of each image's group (N); images of a group are in one fold.
    """

    features: Floats
    embeddings: Floats
    directions: Floats
    texts: Floats
    owner: Ints
    groups: Ints

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Ints) -> HeadData:
        """The data of some images."""
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.owner] >= 0
        return HeadData(
            self.features[rows],
            self.embeddings[rows],
            self.directions[kept],
            self.texts[kept],
            place[self.owner[kept]],
            self.groups[rows],
        )


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A head, and the penalty of its regression."""

    head: LinearHead
    penalty: float


def fit_head(data: HeadData, contrastive: bool = True) -> FittedHead:
    """Fit a head on images and their captions.

    Args:
        data: the images and captions.
        contrastive: whether contrastive steps follow the regression; they were measured with the photo encoder only.
    """
    sums_ND = np.zeros_like(data.embeddings, dtype=np.float64)
    np.add.at(sums_ND, data.owner, data.directions)
    ridge = fit_ridge(data.features, unit_rows(sums_ND))
    predicted_ND = ridge.left_out - ridge.target_mean
    head = LinearHead(ridge.feature_mean, ridge.weight, 1.0)
    head = replace(head, share=_choose_share(data, head, predicted_ND))
    return FittedHead(_refine(data, head) if contrastive and head.share < 1 else head, ridge.penalty)


def _refine(data: HeadData, head: LinearHead) -> LinearHead:
    """The head after a few steps of Adam with a symmetric contrastive loss of the images and one caption of each."""
    rng, scale = np.random.default_rng(SEED), float(np.sqrt(np.square(head.weight).mean()))
    first_M = np.argsort(data.owner, kind="stable")
    count_N = np.bincount(data.owner, minlength=len(data))
    begin_N = np.cumsum(count_N) - count_N
    texts_MD = torch.from_numpy(_single(unit_rows(data.texts)))
    weight_FD = torch.from_numpy(_single(head.weight)).requires_grad_()
    optimizer = torch.optim.Adam([weight_FD], lr=STEP_SIZE * scale)
    for _ in range(NUM_STEPS):
        rows = rng.permutation(np.flatnonzero(count_N))[:MAX_BATCH]
        captions = first_M[begin_N[rows] + rng.integers(0, count_N[rows])]
        kept = rng.random((len(rows), data.features.shape[1])) >= FEATURE_DROPOUT
        features_BF = torch.from_numpy(_single((data.features[rows] - head.mean) * kept / (1 - FEATURE_DROPOUT)))
        others_BD = torch.from_numpy(_single(data.embeddings[rows]))
        mixed_BD = head.share * others_BD + (1 - head.share) * F.normalize(features_BF @ weight_FD, dim=1)
        own_B = torch.arange(len(rows))
        chosen_BD = texts_MD[torch.from_numpy(captions)]
        equal_BB = (chosen_BD @ chosen_BD.T > EQUAL_CAPTIONS).fill_diagonal_(False)  # neither is wrong for the other
        logits_BB = LOGIT_SCALE * F.normalize(mixed_BD, dim=1) @ chosen_BD.T
        logits_BB = logits_BB.masked_fill(equal_BB, -torch.inf)
        loss = F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        optimizer.step()
    return replace(head, weight=weight_FD.detach().numpy().astype(head.weight.dtype))


def cross_fitted(data: HeadData, contrastive: bool = True) -> Floats:
    """Embeddings ``(N, D)`` of all images, each by a head that was fitted without its fold; as ``fit_head``."""
    folds_N, out_ND = assign_folds(data.groups), np.zeros_like(data.embeddings)
    for fold in range(NUM_FOLDS):
        rows = np.flatnonzero(folds_N == fold)
        if len(rows):
            head = fit_head(data.take(np.flatnonzero(folds_N != fold)), contrastive).head
            out_ND[rows] = PhotoSpace.mix(data.embeddings[rows], head.predict(data.features[rows]), head)
    return out_ND


def reciprocal_ranks(texts_MD: Floats, embeddings_ND: Floats, owner_M: Ints) -> NDArray[np.float64]:
    """1 / the rank of each caption's own image among all (M)."""
    return 1 / best_ranks(_single(texts_MD), _single(embeddings_ND), owner_M, np.arange(len(embeddings_ND)))


def caption_ranks(texts_MD: Floats, embeddings_ND: Floats, owner_M: Ints) -> NDArray[np.float64]:
    """The rank of each image's best caption among all captions (N)."""
    return best_ranks(_single(embeddings_ND), _single(texts_MD), np.arange(len(embeddings_ND)), owner_M)


def near_duplicates(features_NF: Floats, keys: list[str]) -> Ints:
    """The group of each image: images with the same key, or with nearly the same features, are in one (N).

    Args:
        features_NF: of the images.
        keys: what identifies the content of an image, or the thing that it shows.
    """
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    parent = [first[key] for key in keys]

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    rows_NF = _single(unit_rows(features_NF - features_NF.mean(axis=0)))
    for start in range(0, len(rows_NF), MAX_RANKED):
        close = np.argwhere(rows_NF[start : start + MAX_RANKED] @ rows_NF.T > NEAR_DUPLICATE)
        for i, j in close.tolist():
            if start + i < j:
                parent[root(j)] = root(start + i)
    return np.unique([root(i) for i in range(len(keys))], return_inverse=True)[1]


def assign_folds(groups_N: Ints) -> Ints:
    """The fold of each image (N): whole groups, the largest first, to the fold with the fewest images."""
    numbers, counts = np.unique(groups_N, return_counts=True)
    fold_of, sizes = {}, [0] * NUM_FOLDS
    for position in np.argsort(-counts, kind="stable"):
        fold = sizes.index(min(sizes))
        fold_of[int(numbers[position])] = fold
        sizes[fold] += int(counts[position])
    return np.array([fold_of[int(group)] for group in groups_N])


def _choose_share(data: HeadData, head: LinearHead, predicted_ND: Floats) -> float:
    rows = _spread(len(data), MAX_RANKED)
    some = data.take(rows)
    queries = _spread(len(some.owner), MAX_QUERIES)

    def score(share: float) -> float:
        mixed = PhotoSpace.mix(some.embeddings, predicted_ND[rows], replace(head, share=share))
        return float(reciprocal_ranks(some.texts[queries], mixed, some.owner[queries]).mean())

    return max(reversed(SHARES), key=score)  # of equal scores the largest share


def _spread(count: int, limit: int) -> Ints:
    """At most ``limit`` of ``count`` numbers, at equal distances."""
    return np.arange(min(count, limit)) * count // min(count, limit)


def _single(rows: Floats) -> NDArray[Any]:
    return np.ascontiguousarray(rows, dtype=np.float32)
