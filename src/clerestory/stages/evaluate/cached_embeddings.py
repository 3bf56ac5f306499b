"""Embeddings of images and texts, each computed once per model and cached by its exact content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import CapabilityError, DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import decode_sample, image_batches
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.samples import batches
from clerestory.store import Store
from clerestory.store.answer_cache import AnswerCache, answer_key

if TYPE_CHECKING:
    from PIL import Image

Matrix = NDArray[np.float32]

MAX_LENGTH_ERROR = 1e-2


def embed_dataset(
    model: Embedder, data: Dataset, store: Store, progress: Progress = QUIET, batch_size: int = 64
) -> Matrix:
    """Embeddings (N, D) of every image, in the order of ``data.samples``; unit rows, float32.

    The row of an image that cannot be decoded is NaN.

    Raises:
        CapabilityError: an embedding is not a finite unit vector; names the sample.
    """
    samples = data.samples
    return embed_images_by_key(
        model,
        [sample.image for sample in samples],
        lambda i: read_image(data, samples[i]),
        store.answer_cache,
        progress,
        batch_size,
        names=[sample.id for sample in samples],
    )


def read_image(data: Dataset, sample: Sample) -> Image.Image | None:
    """The decoded image of a sample, None if it cannot be read or decoded."""
    try:
        return decode_sample(data, sample)
    except (DataError, OSError):
        return None


def embed_images_by_key(
    model: Embedder,
    keys: Sequence[str],
    load: Callable[[int], Image.Image | None],
    cache: AnswerCache,
    progress: Progress = QUIET,
    batch_size: int = 64,
    label: str = "Embedding images",
    names: Sequence[str] = (),
) -> Matrix:
    """Embeddings (N, D) of images, one row per key; unit rows, float32; NaN where ``load`` returns None.

    Embeddings are cached by the digests of the model and its code and by the image's key, one transaction per batch,
    so a killed process loses at most one batch.

    Args:
        model: the embedder.
        keys: identify the exact content of each image: the SHA-256 of its bytes, and of how they were processed.
        load: gives the image at a position; called only for images that are not cached.
        cache: holds the embeddings.
        progress: reports each batch.
        batch_size: images at a time.
        label: of the progress bar.
        names: of the images, for errors; the keys by default.

    Raises:
        CapabilityError: an embedding is not a finite unit vector; names the image.
    """
    prefix = ("image", model.digest, code_digest("data/images", "models"))
    cache_keys = [answer_key(*prefix, key) for key in keys]
    known = cache.get(list(dict.fromkeys(cache_keys)))
    missing: dict[bytes, int] = {}
    for i, cache_key in enumerate(cache_keys):
        if cache_key not in known:
            missing.setdefault(cache_key, i)
    if missing:
        with progress.task(label, len(missing)) as bar:
            for batch in image_batches(missing.items(), lambda item: load(item[1]), batch_size):
                known |= _embed_batch(model, batch, names or keys, cache)
                bar.advance(len(batch))
    return _stack([known.get(cache_key) for cache_key in cache_keys], model)


def embed_texts(model: Embedder, texts: Sequence[str], cache: AnswerCache, batch_size: int = 64) -> Matrix:
    """Embeddings (N, D) of texts; unit rows, float32; each distinct text is embedded once and cached.

    Raises:
        CapabilityError: an embedding is not a finite unit vector; names the text.
    """
    prefix = ("text", model.digest, code_digest("models"))
    cache_keys = [answer_key(*prefix, text) for text in texts]
    known = cache.get(list(dict.fromkeys(cache_keys)))
    missing = {key: text for key, text in zip(cache_keys, texts, strict=True) if key not in known}
    for batch in batches(missing.items(), batch_size):
        rows = model.embed_texts([text for _, text in batch])
        check_unit_rows(rows, (f"the text {text!r}" for _, text in batch))
        embedded = {key: _pack(row) for (key, _), row in zip(batch, rows, strict=True)}
        cache.put(embedded)
        known |= embedded
    return _stack([known[key] for key in cache_keys], model)


def check_unit_rows(rows: Matrix, names: Iterable[str]) -> None:
    """Check that embeddings (N, D) are finite and of length 1.

    Raises:
        CapabilityError: names the first that is not.
    """
    names = list(names)
    if len(rows) != len(names):
        raise CapabilityError(f"the model gave {len(rows)} embeddings for {len(names)} inputs", "check the model")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    invalid = ~(np.abs(lengths - 1.0) < MAX_LENGTH_ERROR)
    if invalid.any():
        first = int(np.flatnonzero(invalid)[0])
        what = (
            "contains NaN or infinity" if not np.isfinite(lengths[first]) else f"has length {lengths[first]:.3g}, not 1"
        )
        more = f" (and {int(invalid.sum()) - 1} others like it)" if invalid.sum() > 1 else ""
        raise CapabilityError(
            f"the model's embedding of {names[first]}{more} {what}",
            "evaluate an earlier checkpoint, or check the model's files",
        )


def _embed_batch(
    model: Embedder,
    batch: Sequence[tuple[tuple[bytes, int], Image.Image | None]],
    names: Sequence[str],
    cache: AnswerCache,
) -> dict[bytes, bytes]:
    usable = [(key, i, image) for (key, i), image in batch if image is not None]
    if not usable:
        return {}
    rows = model.embed_images([image for _, _, image in usable])
    check_unit_rows(rows, (f"the image {names[i]}" for _, i, _ in usable))
    embedded = {key: _pack(row) for (key, _, _), row in zip(usable, rows, strict=True)}
    cache.put(embedded)
    return embedded


def _pack(row: Matrix) -> bytes:
    return np.ascontiguousarray(row, dtype="<f4").tobytes()


def _stack(packed: Sequence[bytes | None], model: Embedder) -> Matrix:
    """(N, D); NaN rows for None."""
    width = next((len(row) // 4 for row in packed if row is not None), max(model.dims))
    matrix = np.full((len(packed), width), np.nan, dtype=np.float32)
    for i, row in enumerate(packed):
        if row is not None:
            matrix[i] = np.frombuffer(row, dtype="<f4")
    return matrix
