"""Corrupted pictures and their embeddings; what has been asked before is neither corrupted nor asked again.

Also the plain baseline that sets the scale of corruption errors: the nearest class by coarse colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.digest import digest
from clerestory.core.errors import InputError
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Sample
from clerestory.data.corruptions import corrupt
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.shared.cached_embeddings import Matrix, embed_images_by_key
from clerestory.stages.evaluate.shared.class_prompts import Classes, unit
from clerestory.stages.evaluate.shared.labelled_features import LabelledFeatures

if TYPE_CHECKING:
    from clerestory.stages.evaluate.context import EvaluationContext

SIDE = 8
Floats = NDArray[np.float64]


class CoarseColours:
    """An ``Embedder`` of pictures that sees 8×8 pixels and nothing else: what any model should beat."""

    dims: tuple[int, ...] = (SIDE * SIDE * 3 + 1,)
    digest: str = digest({"baseline": "coarse colours", "side": SIDE})

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows (N, 193): the colours of 8×8 areas about mid-grey, and a constant that keeps the length above 0."""
        rows = []
        for image in images:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
            rows.append(np.append(np.asarray(small, dtype=np.float64).ravel() / 255 - 0.5, 1.0))
        return unit(np.stack(rows)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """It knows no words.

        Raises:
            InputError: always.
        """
        raise InputError("coarse colours know no words", "use a model that embeds texts")


class CorruptedEmbeddings:
    """Some pictures under one corruption after the other.

    Args:
        bench: of the evaluation; its pictures and answers.
        samples: N pictures.
    """

    def __init__(self, bench: EvaluationContext, samples: Sequence[Sample]) -> None:
        self.bench, self.samples = bench, samples
        self._code = code_digest("data/corruptions", "data/images")
        self._clean: dict[int, NDArray[np.uint8] | None] = {}

    def keys(self, name: str, severity: int) -> list[str]:
        """What each corrupted picture is known by: its own digest, the corruption, the severity, and their code."""
        return [
            digest({"image": sample.image, "corruption": name, "severity": severity, "code": self._code})
            for sample in self.samples
        ]

    def embed(self, models: Sequence[Embedder], name: str, severity: int) -> list[Matrix]:
        """(N, D) for each model; a picture that cannot be read or is too small to be corrupted is all NaN."""
        keys, made = self.keys(name, severity), {}

        def load(place: int) -> Image.Image | None:
            if place not in made:
                made[place] = self._corrupted(place, name, severity)
            return made[place]

        memo, batch = self.bench.store.answer_cache, self.bench.config.batch_size
        return [embed_images_by_key(model, keys, load, memo, batch=batch) for model in models]

    def _corrupted(self, place: int, name: str, severity: int) -> Image.Image | None:
        if place not in self._clean:
            image = self.bench.picture(self.samples[place])
            self._clean[place] = None if image is None else np.asarray(image.convert("RGB"))
        clean = self._clean[place]
        if clean is None:
            return None
        try:
            return Image.fromarray(corrupt(clean, name, severity, self.samples[place].image))
        except InputError:
            return None


def centroids(learnt: LabelledFeatures, classes: Classes) -> Floats:
    """(K, D) the mean of each class, NaN for a class without pictures."""
    counts_K1 = np.bincount(learnt.labels, minlength=len(classes.names))[:, None]
    sums_KD = np.zeros((len(classes.names), learnt.features.shape[1]))
    np.add.at(sums_KD, learnt.labels, learnt.features)
    found: Floats = np.divide(sums_KD, counts_K1, out=np.full(sums_KD.shape, np.nan), where=counts_K1 > 0)
    return found


def nearest(features_ND: NDArray[np.float32], means_KD: Floats) -> NDArray[np.int64]:
    """(N,) the class of the nearest mean, the first of equally near ones."""
    known = np.flatnonzero(~np.isnan(means_KD).any(axis=1))
    x_ND, y_KD = features_ND.astype(np.float64), means_KD[known]
    squared_NK = (y_KD**2).sum(axis=1) - 2 * x_ND @ y_KD.T
    found: NDArray[np.int64] = known[squared_NK.argmin(axis=1)]
    return found
