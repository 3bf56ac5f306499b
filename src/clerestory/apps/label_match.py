"""Labels of a dataset that are probably wrong, by the embeddings of a model."""

from __future__ import annotations

from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.label_classes import label_classes
from clerestory.stages.audit.wrong_labels import detect_wrong_labels
from clerestory.stages.evaluate.cached_embeddings import embed_dataset
from clerestory.store import Store


def match_labels(
    data: Dataset, model: Embedder, store: Store, label_group: str = "", progress: Progress = QUIET
) -> list[Detection] | None:
    """The labels that are probably wrong; at most one detection. None if the data has no classes.

    Embeddings are cached by content, so those of an evaluation of the model are used.

    Args:
        data: the dataset.
        model: embeds the images.
        store: keeps the embeddings.
        label_group: the group whose values are the classes; empty for the usual one.
        progress: reports the images.

    Raises:
        CapabilityError: an embedding is not a finite unit vector.
        NotFound, InputError: the data does not have this group, or its values are not classes.
    """
    classes = label_classes(data, label_group)
    if classes is None:
        return None
    return detect_wrong_labels(data, classes, embed_dataset(model, data, store, progress))
