"""Embeddings of whole data sets, computed once per model and data."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import CapabilityError, IntegrityError, NotFound, UploadError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.pieces import batches
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image

Matrix = NDArray[np.float32]


def embed_dataset(model: Embedder, data: Dataset, store: Store, progress: Progress = QUIET, batch: int = 64) -> Matrix:
    """Embeddings (N, D) of every picture, in the order of ``data.samples``; unit rows, float32.

    Kept in the store by the digests of the model, the data and the code that embeds, so a second call reads them
    back. The row of a picture that cannot be decoded is all NaN. Pictures with the same bytes are embedded once.

    Raises:
        CapabilityError: the model gives something other than finite unit rows; the sample is named.
    """
    key = f"embeddings/{model.digest}/{data.digest}/{code_digest('data', 'models')}"
    kept = store.recall(key)
    # Damaged embeddings are made again: nothing but them rests on them.
    with suppress(IntegrityError, NotFound):
        if kept is not None:
            found: Matrix = np.load(io.BytesIO(store.blobs.get(kept)), allow_pickle=False)
            return found
    matrix = _embed(model, data, progress, batch)
    content = io.BytesIO()
    np.save(content, matrix, allow_pickle=False)
    store.remember(key, store.blobs.put(content.getvalue()))
    return matrix


def embed_captions(model: Embedder, texts: Sequence[str], batch: int = 64) -> Matrix:
    """Embeddings (N, D) of texts; unit rows, float32.

    Raises:
        CapabilityError: the model gives something other than finite unit rows; the text is named.
    """
    parts = []
    for some in batches(texts, batch):
        rows = model.embed_texts(list(some))
        check_rows(rows, (f"the text {text!r}" for text in some))
        parts.append(rows)
    return np.concatenate(parts).astype(np.float32, copy=False)


def check_rows(rows: Matrix, names: Iterable[str]) -> None:
    """Embeddings must be finite and of length 1; the first that is not is named in a ``CapabilityError``."""
    names = list(names)
    if len(rows) != len(names):
        raise CapabilityError(f"the model gave {len(rows)} embeddings for {len(names)} inputs", "check the model")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    wrong = ~(np.abs(lengths - 1.0) < 1e-2)
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        what = "holds NaN or infinity" if not np.isfinite(lengths[place]) else f"has length {lengths[place]:.3g}, not 1"
        more = f" (and {int(wrong.sum()) - 1} others like it)" if wrong.sum() > 1 else ""
        raise CapabilityError(
            f"the model's embedding of {names[place]}{more} {what}",
            "train again with a lower learning rate, or evaluate an earlier checkpoint",
        )


def readable(data: Dataset, sample: Sample) -> Image.Image | None:
    """The decoded picture of a sample, or None where it cannot be read or decoded."""
    try:
        return decode_image(data.read(sample))
    except (UploadError, OSError):
        return None


def _embed(model: Embedder, data: Dataset, progress: Progress, batch: int) -> Matrix:
    first: dict[str, int] = {}
    places = np.array([first.setdefault(sample.image, i) for i, sample in enumerate(data.samples)], dtype=np.int64)
    matrix: Matrix | None = None
    with progress.task("Embedding pictures", len(first)) as bar:
        for some in batches(first.values(), batch):
            decoded = [(i, readable(data, data.samples[i])) for i in some]
            images = [image for _, image in decoded if image is not None]
            at = [i for i, image in decoded if image is not None]
            if images:
                rows = model.embed_images(images)
                check_rows(rows, (f"the picture {data.samples[i].id}" for i in at))
                if matrix is None:
                    matrix = np.full((len(data), rows.shape[1]), np.nan, dtype=np.float32)
                matrix[at] = rows
            bar.advance(len(some))
    if matrix is None:
        return np.full((len(data), max(model.dims)), np.nan, dtype=np.float32)
    return matrix[places]
