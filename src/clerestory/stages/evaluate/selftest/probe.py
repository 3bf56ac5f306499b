"""The probe set of a self-test, and the outputs of a pipeline on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import DataError
from clerestory.core.sample import Dataset
from clerestory.data.images import image_batches
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.cached_embeddings import read_image
from clerestory.stages.evaluate.config import EvaluateConfig, SelfTestConfig
from clerestory.stages.evaluate.held_images import HeldImages, LazyImages
from clerestory.stages.evaluate.samples import (
    batches,
    caption_in,
    choose_splits,
    concept_of,
    normalize_caption,
    select_samples,
)
from clerestory.stats.ranking import best_ranks

if TYPE_CHECKING:
    from PIL import Image

Matrix = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ProbeSet:
    """N images and T captions.

    Attributes:
        images: the N decoded images, large ones when they are used.
        captions: the T distinct captions.
        labels: (N,) the position of each image's caption.
        concepts: (N,) cluster numbers.
        ids: of the images.
    """

    images: Sequence[Image.Image]
    captions: Sequence[str]
    labels: Ints
    concepts: Ints
    ids: Sequence[str]

    def first(self, count: int) -> ProbeSet:
        """The first ``count`` images, with their captions."""
        positions, labels = np.unique(self.labels[:count], return_inverse=True)
        return replace(
            self,
            images=self.images[:count],
            captions=[self.captions[i] for i in positions],
            labels=labels.astype(np.int64),
            concepts=np.unique(self.concepts[:count], return_inverse=True)[1].astype(np.int64),
            ids=self.ids[:count],
        )


@dataclass(frozen=True)
class PipelineOutputs:
    """The outputs of a pipeline on a probe set.

    Attributes:
        images: (N, D) embeddings.
        captions: (T, D) embeddings.
        labels: (N,) the position of the caption that the pipeline takes as correct.
    """

    images: Matrix
    captions: Matrix
    labels: Ints

    @property
    def image_reciprocal_ranks(self) -> NDArray[np.float64]:
        """(N,) 1 / rank of each image's caption."""
        return 1.0 / best_ranks(self.images, self.captions, self.labels, np.arange(len(self.captions)))

    @property
    def caption_reciprocal_ranks(self) -> NDArray[np.float64]:
        """(T,) 1 / rank of each caption's best image; NaN for captions without an image."""
        return 1.0 / best_ranks(self.captions, self.images, np.arange(len(self.captions)), self.labels)

    @property
    def predictions(self) -> Ints:
        """(N,) the position of the caption nearest to each image."""
        nearest: Ints = np.argmax(self.images @ self.captions.T, axis=1)
        return nearest


def make_probe_set(data: Dataset, config: SelfTestConfig) -> ProbeSet:
    """Select captioned images; skin-tone variants are excluded.

    Raises:
        DataError: fewer than two captions are left.
        NotFound: the data has splits, but not the configured one.
    """
    settings = EvaluateConfig(splits=(config.split,), language=config.language, seed=config.seed)
    split = next(iter(choose_splits(data, settings)[0].values()))
    captioned = [sample for sample in split if caption_in(sample, config.language)]
    selected = select_samples(captioned, config.num_images, config.seed)
    held = HeldImages(lambda i: read_image(data, selected[i]))
    positions = [i for i in range(len(selected)) if held[i] is not None]
    readable = [selected[i] for i in positions]
    texts: dict[str, tuple[int, str]] = {}
    for sample in readable:
        text = caption_in(sample, config.language)
        texts.setdefault(normalize_caption(text), (len(texts), text))
    if len(texts) < 2:
        raise DataError(
            f"the data has {len(texts)} captions with a readable image, but a self-test needs at least two",
            "add images with captions",
        )
    keys = [normalize_caption(caption_in(sample, config.language)) for sample in readable]
    labels = np.array([texts[key][0] for key in keys], dtype=np.int64)
    names = [concept_of(sample, config.language) for sample in readable]
    concepts = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return ProbeSet(
        LazyImages(len(readable), lambda i: held[positions[i]]),
        [text for _, text in texts.values()],
        labels,
        concepts,
        [sample.id for sample in readable],
    )


def run_pipeline(model: Embedder, probe: ProbeSet, batch_size: int = 64, order: Ints | None = None) -> PipelineOutputs:
    """Embed everything without a cache; ``order`` is the order in which the images are embedded."""
    images = embed_probe_images(model, probe, batch_size, order)
    return PipelineOutputs(images, embed_probe_captions(model, probe, batch_size), probe.labels)


def embed_probe_images(model: Embedder, probe: ProbeSet, batch_size: int = 64, order: Ints | None = None) -> Matrix:
    """(N, D) in the order of the probe set, whatever the order in which they are embedded."""
    order = np.arange(len(probe.images)) if order is None else order
    loaded = image_batches(order.tolist(), probe.images.__getitem__, batch_size)
    stacked = np.concatenate([model.embed_images([image for _, image in batch if image]) for batch in loaded])
    images = np.empty_like(stacked)
    images[order] = stacked
    return images


def embed_probe_captions(model: Embedder, probe: ProbeSet, batch_size: int = 64) -> Matrix:
    """(T, D)."""
    return np.concatenate([model.embed_texts(batch) for batch in batches(probe.captions, batch_size)])
