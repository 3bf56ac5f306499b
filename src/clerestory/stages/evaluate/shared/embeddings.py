"""Embeddings of whole data sets, each picture embedded once per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clerestory.core.errors import CapabilityError, UploadError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.shared.cached_embeddings import Matrix, embed_images_by_key
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image


def embed_dataset(model: Embedder, data: Dataset, store: Store, progress: Progress = QUIET, batch: int = 64) -> Matrix:
    """Embeddings (N, D) of every picture, in the order of ``data.samples``; unit rows, float32.

    Each is kept in the store by the digests of the model, its code and the picture's exact bytes; one changed picture
    is one that is embedded again. The row of a picture that cannot be decoded is all NaN.

    Raises:
        CapabilityError: the model gives something other than finite unit rows; the sample is named.
    """
    samples = data.samples
    keys = [sample.image for sample in samples]
    try:
        return embed_images_by_key(
            model,
            keys,
            lambda place: readable(data, samples[place]),
            store.answer_cache,
            progress,
            batch,
            "Embedding pictures",
        )
    except CapabilityError as error:
        raise CapabilityError(_by_id(error.message, samples), error.fix) from None


def readable(data: Dataset, sample: Sample) -> Image.Image | None:
    """The decoded picture of a sample, or None where it cannot be read or decoded."""
    try:
        return decode_image(data.read(sample))
    except (UploadError, OSError):
        return None


def _by_id(message: str, samples: Sequence[Sample]) -> str:
    """A message that names a picture by its digest, naming it by the id that people know."""
    for sample in samples:
        if sample.image in message:
            return message.replace(sample.image, sample.id)
    return message
