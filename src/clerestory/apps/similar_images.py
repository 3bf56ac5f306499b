"""Images whose embeddings by a model are very similar, in groups: for models that were made to recognise copies."""

from __future__ import annotations

import numpy as np

from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.models.protocols import Embedder
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.hamming import group_pairs
from clerestory.stages.audit.image_findings import SIMILAR_EMBEDDINGS
from clerestory.stages.audit.similar_embeddings import InvertedFile, similar_pairs
from clerestory.stages.evaluate.cached_embeddings import embed_dataset
from clerestory.store import Store

MAX_EXACT = 50_000  # images; more are compared by an inverted file


def find_similar_images(
    data: Dataset, model: Embedder, store: Store, min_similarity: float, progress: Progress = QUIET
) -> list[Detection]:
    """The images with an embedding like that of another image; at most one detection.

    Embeddings are cached by content, so those of an evaluation of the model are used.

    Args:
        data: the dataset.
        model: embeds the images.
        store: keeps the embeddings.
        min_similarity: the cosine similarity from which on two images are similar; 0 compares nothing.
        progress: reports the images.
    """
    if not min_similarity:
        return []
    vectors = np.ascontiguousarray(embed_dataset(model, data, store, progress), np.float32)
    is_exact = len(vectors) <= MAX_EXACT
    found = (
        similar_pairs(vectors, vectors, min_similarity)
        if is_exact
        else InvertedFile.of(vectors).pairs(vectors, min_similarity)
    )
    is_pair = found.queries_P < found.vectors_P
    groups = group_pairs(found.queries_P[is_pair], found.vectors_P[is_pair], len(vectors))
    samples = [data.samples[place].id for place in sorted(place for group in groups for place in group)]
    if not samples:
        return []
    message = (
        f"{plural(len(samples), 'image')} of {len(data):,} have an embedding with a cosine similarity of at least "
        f"{min_similarity:g} to that of another one, in {plural(len(groups), 'group')}"
    )
    ids = tuple(tuple(data.samples[place].id for place in group) for group in groups)
    return [Detection(SIMILAR_EMBEDDINGS, message, tuple(samples), len(data), groups=ids)]
