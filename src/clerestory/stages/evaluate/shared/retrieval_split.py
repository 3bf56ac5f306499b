"""Image-to-text and text-to-image retrieval within a split: its candidates, ranks, rows and metrics.

Where no image has more than one caption: image to text, every image is a query, the distinct captions of the split are
the candidates, and its own caption is the correct one. Text to image, every distinct caption is a query and the images
of the split are the candidates; several images can have the same caption (one per drawing), and the rank is that of the
best of them.

Where images have several captions in the language, as in Flickr30k and COCO, the published protocol (Karpathy & Fei-Fei
2015): every caption of every image is a candidate and a query. The rank of an image is that of the best of its own
captions, and only its own image is correct for a caption.

Equal scores count against the model (pessimistic ties).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.errors import DataError
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.progress import Progress
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName, Unscored, chance_fact
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.cached_embeddings import embed_dataset, embed_texts
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import RowBuilder
from clerestory.stages.evaluate.samples import captions_of, concept_of, normalize_caption
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.ranking import average_precision, best_ranks, chance_recall
from clerestory.store import Store

RECALL_KS = (1, 5, 10)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RetrievalSplit:
    """The embedded images and captions of one split. P images, T distinct captions, D dimensions.

    Attributes:
        split: its name.
        samples: the P images, without skin-tone variants.
        captions: the T captions, in the order of the samples; distinct ones where no image has several.
        labels: (P,) the position of each image's first caption, -1 where the image is not scored.
        groups: (P,) equal to ``caption_groups`` of the captions that are correct for an image; -1 if not scored.
        caption_groups: (T,).
        unscored: for each image why it is not scored, empty where it is.
        embeddings: (P, D) of the images.
        caption_embeddings: (T, D).
    """

    split: str
    samples: tuple[Sample, ...]
    captions: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    caption_groups: NDArray[np.int64]
    unscored: tuple[Unscored | str, ...]
    embeddings: NDArray[np.float32]
    caption_embeddings: NDArray[np.float32]

    @property
    def scored(self) -> NDArray[np.int64]:
        """The positions of the images that are scored: readable and captioned."""
        return np.flatnonzero(self.labels >= 0)

    @cached_property
    def images_of_group(self) -> dict[int, list[int]]:
        """The positions of the scored images of each group."""
        images: dict[int, list[int]] = defaultdict(list)
        for i in self.scored.tolist():
            images[int(self.groups[i])].append(i)
        return images

    def images_of(self, caption: int) -> list[int]:
        """The positions of the images for which a caption is correct."""
        return self.images_of_group[int(self.caption_groups[caption])]

    @property
    def most_captions(self) -> int:
        """The largest number of captions of one image."""
        return int(np.bincount(self.caption_groups).max())


def retrieval_split(context: EvaluationContext, name: str) -> RetrievalSplit:
    """A split with its images and captions embedded, once per evaluation; needs an ``Embedder``."""
    config, store = context.config, context.store

    def make() -> RetrievalSplit:
        return make_retrieval_split(context.embedder, name, context.splits[name], config, store, context.progress)

    return context.once(f"retrieval_split/{name}", make)


def make_retrieval_split(
    model: Embedder, name: str, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress
) -> RetrievalSplit:
    """Embed the images and the distinct captions of a split.

    Raises:
        DataError: fewer than two captions have a readable image.
        CapabilityError: an embedding is not a finite unit vector.
    """
    embeddings = embed_dataset(model, data, store, progress, config.batch_size)
    texts = [captions_of(sample, config.language, config.retrieval_protocol) for sample in data]
    unscored: list[Unscored | str] = [
        Unscored.NO_CAPTION if not own else Unscored.UNREADABLE_IMAGE if np.isnan(embeddings[i]).any() else ""
        for i, own in enumerate(texts)
    ]
    number = _number_separately if max(map(len, texts), default=0) > 1 else _number_distinct
    captions, labels, groups, caption_groups = number(
        [[] if no else own for own, no in zip(texts, unscored, strict=True)]
    )
    if len(captions) < 2:
        raise DataError(
            f"split {name!r} has {len(captions)} captions with a readable image, but retrieval needs at least two",
            "replace the unreadable images",
        )
    embedded = embed_texts(model, captions, store.answer_cache, config.batch_size)
    return RetrievalSplit(
        name, data.samples, captions, labels, groups, caption_groups, tuple(unscored), embeddings, embedded
    )


Numbered = tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _number_distinct(texts: Sequence[Sequence[str]]) -> Numbered:
    """Distinct captions, each image's caption, and both groups: images with the same caption are one group."""
    captions: dict[str, tuple[int, str]] = {}
    labels = np.full(len(texts), -1, dtype=np.int64)
    for i, own in enumerate(texts):
        for text in own:
            labels[i] = captions.setdefault(normalize_caption(text), (len(captions), text))[0]
    return tuple(text for _, text in captions.values()), labels, labels, np.arange(len(captions))


def _number_separately(texts: Sequence[Sequence[str]]) -> Numbered:
    """All captions, each image's first one, and both groups: an image and its captions are one group."""
    counts = np.array([len(own) for own in texts], dtype=np.int64)
    scored = counts > 0
    labels = np.where(scored, np.cumsum(counts) - counts, -1)
    groups = np.where(scored, np.arange(len(texts)), -1)
    return tuple(text for own in texts for text in own), labels, groups, np.repeat(np.arange(len(texts)), counts)


def image_to_text(split: RetrievalSplit, builder: RowBuilder, language: str) -> Floats:
    """Add one row per image; returns the ranks (P,), NaN where an image is not scored."""
    ranks_P = np.full(len(split.samples), np.nan)
    precision_P = np.full(len(split.samples), np.nan)
    scored = split.scored
    queries = (split.embeddings[scored], split.caption_embeddings, split.groups[scored], split.caption_groups)
    captions_of_group = np.bincount(split.caption_groups)
    ranks_P[scored], precision_P[scored] = best_ranks(*queries), average_precision(*queries)
    for i, sample in enumerate(split.samples):
        builder.add(
            [sample],
            task=TaskName.IMAGE_TO_TEXT,
            split=split.split,
            sample=sample.id,
            concept=concept_of(sample, language),
            query=split.captions[split.labels[i]] if split.labels[i] >= 0 else "",
            unscored=split.unscored[i],
            rank=float(ranks_P[i]),
            relevant=float(captions_of_group[split.groups[i]]) if split.groups[i] >= 0 else 1.0,
            precision=float(precision_P[i]),
        )
    return ranks_P


def text_to_image(split: RetrievalSplit, builder: RowBuilder, language: str) -> Floats:
    """Add one row per caption; returns the ranks (T,).

    The sample of a row is the image whose rank it is; its concept is that of the caption's first image.
    """
    scored = split.scored
    queries = (split.caption_embeddings, split.embeddings[scored], split.caption_groups, split.groups[scored])
    ranks_T, precision_T = best_ranks(*queries), average_precision(*queries)
    for label, text in enumerate(split.captions):
        positions = split.images_of(label)
        own_scores = np.einsum("pd,d->p", split.embeddings[positions], split.caption_embeddings[label])
        best = positions[int(own_scores.argmax())]
        samples = [split.samples[position] for position in positions]
        builder.add(
            samples,
            task=TaskName.TEXT_TO_IMAGE,
            split=split.split,
            sample=split.samples[best].id,
            concept=concept_of(samples[0], language),
            query=text,
            rank=float(ranks_T[label]),
            relevant=float(len(positions)),
            precision=float(precision_T[label]),
        )
    return ranks_T


def retrieval_measurements(
    rows: Rows, slice_: Mapping[str, str], where: Mapping[str, str] | None = None
) -> list[Measurement]:
    """Recall@k and the median rank of one slice; ``where`` selects its rows, if other columns have its values."""
    tags = Tags({"condition": Condition.CLEAN, **(where or slice_)})
    recalls = [
        measure(rows, Recipe("share_at_most", "rank", tags, CLUSTER_COLUMN, float(k)), f"recall@{k}", slice_)
        for k in RECALL_KS
    ]
    median = Recipe("quantile", "rank", tags, CLUSTER_COLUMN, 0.5)
    return [*recalls, measure(rows, median, "median_rank", slice_)]


def retrieval_facts(split: RetrievalSplit) -> dict[str, Fact]:
    """How many candidates the queries of a split have, and the recall of guessing."""
    images, captions = len(split.scored), len(split.captions)
    captions_of_group = np.bincount(split.caption_groups)
    captions_per_image = captions_of_group[split.groups[split.scored]]
    images_per_caption = [len(split.images_of(caption)) for caption in range(captions)]
    facts: dict[str, Fact] = {
        f"candidates.{TaskName.IMAGE_TO_TEXT}.{split.split}": captions,
        f"candidates.{TaskName.TEXT_TO_IMAGE}.{split.split}": images,
        f"retrieval.captions_per_image.{split.split}": split.most_captions,
    }
    for k in RECALL_KS:
        to_text, to_image = chance_recall(captions, captions_per_image, k), chance_recall(images, images_per_caption, k)
        facts[chance_fact(f"recall@{k}", TaskName.IMAGE_TO_TEXT, split.split)] = round(float(to_text), 6)
        facts[chance_fact(f"recall@{k}", TaskName.TEXT_TO_IMAGE, split.split)] = round(float(to_image), 6)
    return facts
