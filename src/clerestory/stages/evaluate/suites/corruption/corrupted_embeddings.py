"""Embeddings of corrupted images, each computed once, and the colour baseline that scales corruption errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.digest import digest
from clerestory.core.errors import InputError
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Sample
from clerestory.data.corruptions import corrupt
from clerestory.models.protocols import Embedder
from clerestory.models.zero_shot import unit_rows
from clerestory.stages.evaluate.cached_embeddings import Matrix, embed_images_by_key
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.held_images import HeldImages
from clerestory.stages.evaluate.shared.class_prompts import Classes
from clerestory.stages.evaluate.shared.classifiers import LabelledFeatures

SIDE = 8
# Radii and sizes of corruptions are made for images of a few hundred pixels (ImageNet-C 224, COCO-C 640): on a
# photograph of 4,000 a model would hardly see them, and one would take a gigabyte.
MAX_SIDE = 1024
Floats = NDArray[np.float64]


class CoarseColours:
    """An ``Embedder`` that sees 8×8 pixels of an image: a baseline that any model should exceed."""

    dims: tuple[int, ...] = (SIDE * SIDE * 3 + 1,)
    digest: str = digest({"baseline": "coarse colours", "side": SIDE})

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows (N, 193): the mean colours of 8×8 areas minus mid-grey, and a constant that avoids length 0."""
        rows = []
        for image in images:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
            rows.append(np.append(np.asarray(small, dtype=np.float64).ravel() / 255 - 0.5, 1.0))
        return unit_rows(np.stack(rows)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Not supported.

        Raises:
            InputError: always.
        """
        raise InputError("the colour baseline cannot embed texts", "use a model that embeds texts")


class CorruptedEmbeddings:
    """Embeddings of some images under each corruption.

    Args:
        context: of the evaluation.
        samples: N images.
    """

    def __init__(self, context: EvaluationContext, samples: Sequence[Sample]) -> None:
        self.context, self.samples = context, samples
        self._code = code_digest("data/corruptions", "data/images")
        self._clean = HeldImages(lambda i: _reduced(context.read_image(samples[i])))

    def keys(self, name: str, severity: int) -> list[str]:
        """The cache key of each corrupted image: digest of the image, the corruption, the severity, and their code."""
        return [
            digest(
                {
                    **{"image": sample.image, "corruption": name, "severity": severity},
                    **{"max_side": MAX_SIDE, "code": self._code},
                }
            )
            for sample in self.samples
        ]

    def embed(self, models: Sequence[Embedder], name: str, severity: int) -> list[Matrix]:
        """(N, D) for each model; NaN rows for images that cannot be read or are too small to be corrupted."""
        keys = self.keys(name, severity)
        corrupted = HeldImages(lambda i: self._corrupt(i, name, severity))
        cache, batch_size = self.context.store.answer_cache, self.context.config.batch_size
        return [
            embed_images_by_key(model, keys, corrupted.__getitem__, cache, batch_size=batch_size) for model in models
        ]

    def _corrupt(self, position: int, name: str, severity: int) -> Image.Image | None:
        clean = self._clean[position]
        if clean is None:
            return None
        try:
            return Image.fromarray(corrupt(np.asarray(clean), name, severity, self.samples[position].image))
        except InputError:
            return None


def _reduced(image: Image.Image | None) -> Image.Image | None:
    """An image with a longer side of at most ``MAX_SIDE``, in its proportions."""
    if image is not None and max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return image


def class_means(train: LabelledFeatures, classes: Classes) -> Floats:
    """(K, D) the mean of each class, NaN for a class without images."""
    counts_K1 = np.bincount(train.labels, minlength=len(classes.names))[:, None]
    sums_KD = np.zeros((len(classes.names), train.features.shape[1]))
    np.add.at(sums_KD, train.labels, train.features)
    means_KD: Floats = np.divide(sums_KD, counts_K1, out=np.full(sums_KD.shape, np.nan), where=counts_K1 > 0)
    return means_KD


def nearest_class(features_ND: Matrix, means_KD: Floats) -> NDArray[np.int64]:
    """(N,) the class of the nearest mean, the first of equally near ones."""
    known = np.flatnonzero(~np.isnan(means_KD).any(axis=1))
    x_ND, y_KD = features_ND.astype(np.float64), means_KD[known]
    squared_NK = (y_KD**2).sum(axis=1) - 2 * x_ND @ y_KD.T
    nearest_N: NDArray[np.int64] = known[squared_NK.argmin(axis=1)]
    return nearest_N
