"""Image-to-text and text-to-image retrieval within a split: its candidates, ranks, rows and metrics.

Image to text: every image is a query, the distinct captions of the split are the candidates, and its own caption is the
correct one. Text to image: every distinct caption is a query and the images of the split are the candidates; several
images can have the same caption (one per drawing), and the rank is that of the best of them.

Equal scores count against the model (pessimistic ties).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.errors import DataError
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.progress import Progress
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName, Unscored
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.cached_embeddings import embed_dataset, embed_texts
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import RowBuilder
from clerestory.stages.evaluate.samples import caption_in, concept_of, normalize_caption
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
        captions: the T distinct captions, in the order of the first sample that has each.
        labels: (P,) the position of each image's caption, -1 where the image is not scored.
        unscored: for each image why it is not scored, empty where it is.
        embeddings: (P, D) of the images.
        caption_embeddings: (T, D).
    """

    split: str
    samples: tuple[Sample, ...]
    captions: tuple[str, ...]
    labels: NDArray[np.int64]
    unscored: tuple[Unscored | str, ...]
    embeddings: NDArray[np.float32]
    caption_embeddings: NDArray[np.float32]

    @property
    def scored(self) -> NDArray[np.int64]:
        """The positions of the images that are scored: readable and captioned."""
        return np.flatnonzero(self.labels >= 0)


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
    captions: dict[str, tuple[int, str]] = {}
    labels = np.full(len(data), -1, dtype=np.int64)
    unscored: list[Unscored | str] = []
    for i, sample in enumerate(data):
        text = caption_in(sample, config.language)
        unreadable = bool(np.isnan(embeddings[i]).any())
        unscored.append(Unscored.NO_CAPTION if not text else Unscored.UNREADABLE_IMAGE if unreadable else "")
        if not unscored[-1]:
            labels[i] = captions.setdefault(normalize_caption(text), (len(captions), text))[0]
    if len(captions) < 2:
        raise DataError(
            f"split {name!r} has {len(captions)} captions with a readable image, but retrieval needs at least two",
            "replace the unreadable images",
        )
    texts = tuple(text for _, text in captions.values())
    embedded = embed_texts(model, texts, store.answer_cache, config.batch_size)
    return RetrievalSplit(name, data.samples, texts, labels, tuple(unscored), embeddings, embedded)


def image_to_text(split: RetrievalSplit, builder: RowBuilder, language: str) -> Floats:
    """Add one row per image; returns the ranks (P,), NaN where an image is not scored."""
    ranks_P = np.full(len(split.samples), np.nan)
    precision_P = np.full(len(split.samples), np.nan)
    scored = split.scored
    all_labels = np.arange(len(split.captions))
    queries = (split.embeddings[scored], split.caption_embeddings, split.labels[scored], all_labels)
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
            relevant=1.0,
            precision=float(precision_P[i]),
        )
    return ranks_P


def text_to_image(split: RetrievalSplit, builder: RowBuilder, language: str) -> Floats:
    """Add one row per distinct caption; returns the ranks (T,).

    The sample of a row is the image whose rank it is; its concept is that of the caption's first image.
    """
    scored = split.scored
    labels = split.labels[scored]
    queries = (split.caption_embeddings, split.embeddings[scored], np.arange(len(split.captions)), labels)
    ranks_T, precision_T = best_ranks(*queries), average_precision(*queries)
    own_scores = np.einsum("pd,pd->p", split.embeddings[scored], split.caption_embeddings[labels])
    images: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels.tolist()):
        images[label].append(position)
    for label, text in enumerate(split.captions):
        positions = images[label]
        best = max(positions, key=lambda position: own_scores[position])
        samples = [split.samples[scored[position]] for position in positions]
        builder.add(
            samples,
            task=TaskName.TEXT_TO_IMAGE,
            split=split.split,
            sample=split.samples[scored[best]].id,
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
    images_per_caption = np.bincount(split.labels[split.scored])
    facts: dict[str, Fact] = {
        f"candidates.{TaskName.IMAGE_TO_TEXT}.{split.split}": captions,
        f"candidates.{TaskName.TEXT_TO_IMAGE}.{split.split}": images,
    }
    for k in RECALL_KS:
        to_text, to_image = chance_recall(captions, [1], k), chance_recall(images, images_per_caption, k)
        facts[f"chance.recall@{k}.{TaskName.IMAGE_TO_TEXT}.{split.split}"] = round(float(to_text), 6)
        facts[f"chance.recall@{k}.{TaskName.TEXT_TO_IMAGE}.{split.split}"] = round(float(to_image), 6)
    return facts
