"""Whether the captions of a dataset fit their images, by the embeddings of a model."""

from __future__ import annotations

from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.models.languages import languages_of
from clerestory.models.protocols import Embedder
from clerestory.stages.audit.caption_mismatch import captions_to_match, check_mismatch
from clerestory.stages.audit.detection import Detection
from clerestory.stages.evaluate.cached_embeddings import embed_dataset, embed_texts
from clerestory.store import Store

MIN_CAPTIONS = 100  # fewer show nothing, and are not embedded


def match_captions(data: Dataset, model: Embedder, store: Store, progress: Progress = QUIET) -> list[Detection] | None:
    """The captions that do not fit their image; at most one detection. None if there are too few captions to tell.

    Embeddings are cached by content, so those of an evaluation of the model are used.

    Args:
        data: the dataset.
        model: embeds images and texts; captions in languages that it does not read are left out.
        store: keeps the embeddings.
        progress: reports the images.

    Raises:
        CapabilityError: an embedding is not a finite unit vector.
    """
    captions = captions_to_match(data, languages_of(model))
    if len(captions) < MIN_CAPTIONS:
        return None
    images = embed_dataset(model, data, store, progress)
    texts = embed_texts(model, [data.samples[i].captions[j].text for i, j in captions], store.answer_cache)
    return check_mismatch(data, images, texts, captions, progress=progress)
