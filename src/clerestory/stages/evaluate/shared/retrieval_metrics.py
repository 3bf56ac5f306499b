"""Image→text and text→image retrieval within a split.

Image→text: every picture is a query and the split's distinct captions are the candidates; its own caption is the
right one. Text→image: every distinct caption is a query and the split's pictures are the candidates; a caption
belongs to several pictures (one for each drawing), and its rank is that of the best of them.

Equal scores count against the model (pessimistic ties).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from clerestory.stages.evaluate.shared.retrieval_split import RetrievalSplit, concept_of
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stats.ranking import average_precision, best_ranks, chance_recall

IMAGE_TO_TEXT, TEXT_TO_IMAGE = "image_to_text", "text_to_image"
RECALLS = (1, 5, 10)


def image_to_text(pool: RetrievalSplit, table: RowBuilder, lang: str) -> NDArray[np.float64]:
    """One row per picture; returns the ranks (P,), NaN where a picture is not scored."""
    ranks = np.full(len(pool.samples), np.nan)
    scored = pool.scored
    everything = np.arange(len(pool.captions))
    precision = np.full(len(pool.samples), np.nan)
    asked = (pool.embeddings[scored], pool.caption_embeddings, pool.labels[scored], everything)
    ranks[scored], precision[scored] = best_ranks(*asked), average_precision(*asked)
    for i, sample in enumerate(pool.samples):
        table.add(
            [sample],
            task=IMAGE_TO_TEXT,
            split=pool.split,
            sample=sample.id,
            concept=concept_of(sample, lang),
            query=pool.captions[pool.labels[i]] if pool.labels[i] >= 0 else "",
            unscored=pool.reasons[i],
            rank=float(ranks[i]),
            relevant=1.0,
            precision=float(precision[i]),
        )
    return ranks


def text_to_image(pool: RetrievalSplit, table: RowBuilder, lang: str) -> NDArray[np.float64]:
    """One row per distinct caption; returns the ranks (T,).

    The row's sample is the picture whose rank it is; its concept is that of the caption's first picture.
    """
    scored = pool.scored
    labels = pool.labels[scored]
    asked = (pool.caption_embeddings, pool.embeddings[scored], np.arange(len(pool.captions)), labels)
    ranks, precision = best_ranks(*asked), average_precision(*asked)
    own = np.einsum("pd,pd->p", pool.embeddings[scored], pool.caption_embeddings[labels])
    pictures: dict[int, list[int]] = defaultdict(list)
    for place, label in enumerate(labels.tolist()):
        pictures[label].append(place)
    for label, text in enumerate(pool.captions):
        places = pictures[label]
        best = max(places, key=lambda place: own[place])
        samples = [pool.samples[scored[place]] for place in places]
        table.add(
            samples,
            task=TEXT_TO_IMAGE,
            split=pool.split,
            sample=pool.samples[scored[best]].id,
            concept=concept_of(samples[0], lang),
            query=text,
            rank=float(ranks[label]),
            relevant=float(len(places)),
            precision=float(precision[label]),
        )
    return ranks


def facts(pool: RetrievalSplit) -> dict[str, str]:
    """How many candidates there are, and what guessing would score."""
    pictures, captions = len(pool.scored), len(pool.captions)
    sizes = np.bincount(pool.labels[pool.scored])
    found = {
        f"candidates.{IMAGE_TO_TEXT}.{pool.split}": str(captions),
        f"candidates.{TEXT_TO_IMAGE}.{pool.split}": str(pictures),
    }
    for k in RECALLS:
        found[f"chance.recall@{k}.{IMAGE_TO_TEXT}.{pool.split}"] = f"{chance_recall(captions, [1], k):.6f}"
        found[f"chance.recall@{k}.{TEXT_TO_IMAGE}.{pool.split}"] = f"{chance_recall(pictures, sizes, k):.6f}"
    return found
