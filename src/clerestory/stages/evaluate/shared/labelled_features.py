"""The training data of classifiers: embeddings and labels of the splits ``train`` and ``val``.

Training images are never evaluated: data without a split ``train`` has no training data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.digest import digest
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.cached_embeddings import embed_dataset
from clerestory.stages.evaluate.samples import concept_of, is_base_image, select_samples
from clerestory.stages.evaluate.shared.class_prompts import Classes

if TYPE_CHECKING:
    from clerestory.stages.evaluate.context import EvaluationContext

MAX_SAMPLES = 4000
HELD_OUT_SHARE = 0.1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class LabelledFeatures(NamedTuple):
    """Embeddings of M labelled images of one split.

    Attributes:
        features: (M, D) embeddings.
        labels: (M,) class indices.
        concepts: the concept of each image.
        split_size: how many images the split has, skin-tone variants excluded.
    """

    features: Floats
    labels: Ints
    concepts: tuple[str, ...]
    split_size: int

    @property
    def sampled(self) -> bool:
        """Whether the images were sampled from a larger split."""
        return self.split_size > MAX_SAMPLES

    @property
    def num_classes(self) -> int:
        """How many classes occur."""
        return len(set(self.labels.tolist()))


def labelled_features(
    context: EvaluationContext, split: str, classes: Classes, model: Embedder | None = None
) -> LabelledFeatures | None:
    """The labelled, readable ones among at most 4,000 images of a split that is not evaluated; None if there are none.

    Skin-tone variants are excluded: they would make a few concepts count many times. The images are sampled before
    their labels are read, so that every suite embeds the same ones. ``model`` replaces the evaluated model.
    """
    if split in context.splits:
        return None
    base = context.data.where(lambda sample: sample.split == split and is_base_image(sample))
    sampled = select_samples(base, MAX_SAMPLES, context.config.seed)
    labelled = [sample for sample, label in zip(sampled, classes.of(sampled), strict=True) if label >= 0]
    if not labelled:
        return None
    data = Dataset(context.data.name, labelled, context.data.read)
    config = context.config
    embedded = embed_dataset(model or context.embedder, data, context.store, context.progress, config.batch_size)
    features = embedded.astype(np.float64)
    usable = np.asarray(~np.isnan(features).any(axis=1))
    if not usable.any():
        return None
    concepts = tuple(concept_of(s, config.language) for s, use in zip(data, usable, strict=True) if use)
    return LabelledFeatures(features[usable], classes.of(data)[usable], concepts, len(base))


def hold_out_concepts(train: LabelledFeatures) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Training data without a tenth of its concepts, selected by a hash, and that tenth to choose the penalty on."""
    held_out = np.array([int(digest({"aside": name})[:8], 16) / 2**32 < HELD_OUT_SHARE for name in train.concepts])
    if not held_out.any() or held_out.all():
        return train, train

    def take(chosen: NDArray[np.bool_]) -> LabelledFeatures:
        concepts = tuple(name for name, use in zip(train.concepts, chosen, strict=True) if use)
        return LabelledFeatures(train.features[chosen], train.labels[chosen], concepts, train.split_size)

    return take(~held_out), take(held_out)
