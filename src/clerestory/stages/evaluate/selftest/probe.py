"""What is asked of a pipeline before and after: pictures, captions, who belongs to whom, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import DataError
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.selftest.config import SelfTestConfig
from clerestory.stages.evaluate.shared.embeddings import readable
from clerestory.stages.evaluate.shared.retrieval_split import caption_in, choose_splits, concept_of, normal
from clerestory.stages.evaluate.shared.sampling import batches, choose
from clerestory.stats.ranking import best_ranks

if TYPE_CHECKING:
    from PIL import Image

Matrix = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Probe:
    """N pictures and T captions.

    Attributes:
        pictures: the N decoded pictures.
        captions: the T distinct captions.
        labels: (N,) the place of each picture's caption.
        concepts: (N,) cluster numbers.
        ids: of the pictures.
    """

    pictures: Sequence[Image.Image]
    captions: Sequence[str]
    labels: Ints
    concepts: Ints
    ids: Sequence[str]

    def first(self, count: int) -> Probe:
        """The first ``count`` pictures, with the captions they have."""
        places, labels = np.unique(self.labels[:count], return_inverse=True)
        return replace(
            self,
            pictures=self.pictures[:count],
            captions=[self.captions[place] for place in places],
            labels=labels.astype(np.int64),
            concepts=np.unique(self.concepts[:count], return_inverse=True)[1].astype(np.int64),
            ids=self.ids[:count],
        )


@dataclass(frozen=True)
class Answers:
    """What a pipeline answered.

    Attributes:
        pictures: (N, D) embeddings.
        captions: (T, D) embeddings.
        labels: (N,) the place of the caption that is taken for right.
    """

    pictures: Matrix
    captions: Matrix
    labels: Ints

    @property
    def reciprocal_ranks(self) -> NDArray[np.float64]:
        """(N,) 1 / rank of each picture's caption."""
        return 1.0 / best_ranks(self.pictures, self.captions, self.labels, np.arange(len(self.captions)))

    @property
    def found_pictures(self) -> NDArray[np.float64]:
        """(T,) 1 / rank of each caption's best picture; NaN for a caption that none of the pictures has."""
        return 1.0 / best_ranks(self.captions, self.pictures, np.arange(len(self.captions)), self.labels)

    @property
    def first_answers(self) -> Ints:
        """(N,) the place of the caption that is nearest to each picture."""
        nearest: Ints = np.argmax(self.pictures @ self.captions.T, axis=1)
        return nearest


def make_probe(data: Dataset, config: SelfTestConfig) -> Probe:
    """Choose pictures with captions; skin-tone variants are left out.

    Raises:
        DataError: fewer than two captions are left.
        NotFound: the data has splits, but not the one that is asked for.
    """
    settings = EvaluateConfig(splits=(config.split,), language=config.lang, seed=config.seed)
    part = next(iter(choose_splits(data, settings)[0].values()))
    captioned = [sample for sample in part if caption_in(sample, config.lang)]
    loaded = [(sample, readable(data, sample)) for sample in choose(captioned, config.pictures, config.seed)]
    kept = [(sample, image) for sample, image in loaded if image is not None]
    texts: dict[str, tuple[int, str]] = {}
    for sample, _ in kept:
        text = caption_in(sample, config.lang)
        texts.setdefault(normal(text), (len(texts), text))
    if len(texts) < 2:
        raise DataError(f"{len(texts)} captions with a readable picture are too few for a self-test", "add pictures")
    labels = np.array([texts[normal(caption_in(sample, config.lang))][0] for sample, _ in kept], dtype=np.int64)
    names = [concept_of(sample, config.lang) for sample, _ in kept]
    concepts = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    captions = [text for _, text in texts.values()]
    return Probe([image for _, image in kept], captions, labels, concepts, [sample.id for sample, _ in kept])


def ask(model: Embedder, probe: Probe, batch: int = 64, order: Ints | None = None) -> Answers:
    """Embed everything anew, no cache in between; ``order`` is the order the pictures are asked in."""
    return Answers(ask_pictures(model, probe, batch, order), ask_captions(model, probe, batch), probe.labels)


def ask_pictures(model: Embedder, probe: Probe, batch: int = 64, order: Ints | None = None) -> Matrix:
    """(N, D) in the order of the probe, asked in another one where that is given."""
    order = np.arange(len(probe.pictures)) if order is None else order
    rows = [model.embed_images([probe.pictures[i] for i in some]) for some in batches(order.tolist(), batch)]
    stacked = np.concatenate(rows)
    pictures = np.empty_like(stacked)
    pictures[order] = stacked
    return pictures


def ask_captions(model: Embedder, probe: Probe, batch: int = 64) -> Matrix:
    """(T, D)."""
    return np.concatenate([model.embed_texts(some) for some in batches(probe.captions, batch)])
