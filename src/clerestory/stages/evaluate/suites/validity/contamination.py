"""Test images that are in the training split: the same bytes, or near copies.

A near copy needs agreement of several signals: a difference hash of 512 bits that hardly differs (Krawetz 2013), no
cell of a coarse grid whose colour differs visibly, and, if the model embeds images, nearly equal embeddings. A single
one of them errs on simple drawings: a red and a blue heart have the same hash, two faces differ in the mouth only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import TRAIN, Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.cached_embeddings import embed_images_by_key, read_image
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.samples import batches
from clerestory.store.answer_cache import AnswerCache, answer_key

SIDE = 16
HASH_BYTES = 2 * SIDE * SIDE // 8
SIGNATURE_BYTES = HASH_BYTES + SIDE * SIDE * 3
MIN_STEP = 4  # of 255 grey levels: smaller steps are compression noise on a plain background
MAX_BITS = 10  # of 512; re-encoding and scaling flip fewer, another drawing of the same concept flips dozens
MAX_LEVELS = 24  # of 255, in the cell that differs most
MIN_COSINE = 0.98
BLOCK = 512

SAME_BYTES, NEAR_COPY = "same bytes", "near copy"

Bytes = NDArray[np.uint8]


def contaminated_samples(context: EvaluationContext, data: Dataset, samples: Sequence[Sample]) -> dict[str, str]:
    """The ids of samples whose image is also in the split ``train`` of the data, each with how it was recognised."""
    train = [sample for sample in data if sample.split == TRAIN]
    train_images = {sample.image for sample in train}
    found = {sample.id: SAME_BYTES for sample in samples if sample.image in train_images}
    rest = [sample for sample in samples if sample.id not in found]
    if not train or not rest:
        return found
    pairs = _near_pairs(context, data, rest, train)
    return found | dict.fromkeys(_confirmed(context, data, pairs), NEAR_COPY)


def _near_pairs(
    context: EvaluationContext, data: Dataset, samples: Sequence[Sample], train: Sequence[Sample]
) -> list[tuple[Sample, Sample]]:
    """For each sample with a near copy in the training images, the nearest of these."""
    signatures = image_signatures(data, [*samples, *train], context.store.answer_cache, context.progress)
    readable = [sample for sample in train if sample.image in signatures]
    if not readable:
        return []
    train_hashes = np.stack([signatures[sample.image][:HASH_BYTES] for sample in readable])
    pairs = []
    for batch in batches([sample for sample in samples if sample.image in signatures], BLOCK):
        hashes = np.stack([signatures[sample.image][:HASH_BYTES] for sample in batch])
        distances = _hamming_distances(hashes, train_hashes)
        for n, sample in enumerate(batch):
            near = np.flatnonzero(distances[n] <= MAX_BITS).tolist()
            levels = [(_max_level_difference(signatures[sample.image], signatures[readable[i].image]), i) for i in near]
            if levels and min(levels)[0] <= MAX_LEVELS:
                pairs.append((sample, readable[min(levels)[1]]))
    return pairs


def _max_level_difference(left: Bytes, right: Bytes) -> int:
    """The largest difference of any cell and colour of two signatures, in levels."""
    return int(np.abs(left[HASH_BYTES:].astype(np.int16) - right[HASH_BYTES:].astype(np.int16)).max())


def _hamming_distances(left: Bytes, right: Bytes) -> NDArray[np.int32]:
    """Bits that differ, (L, R), of hashes (L, 64) and (R, 64)."""
    a, b = (np.unpackbits(each, axis=1).astype(np.float32) for each in (left, right))
    # |a - b| = a + b - 2ab for bits; every number is a small integer, so float32 is exact.
    distances: NDArray[np.int32] = (a.sum(1)[:, None] + b.sum(1)[None, :] - 2 * a @ b.T).astype(np.int32)
    return distances


def _confirmed(context: EvaluationContext, data: Dataset, pairs: Sequence[tuple[Sample, Sample]]) -> list[str]:
    """The ids of pairs whose embeddings are nearly equal, too; all of them without an ``Embedder``."""
    if not pairs or not isinstance(context.model, Embedder):
        return [sample.id for sample, _ in pairs]
    flat = [sample for pair in pairs for sample in pair]
    keys = [sample.image for sample in flat]
    cache = context.store.answer_cache
    rows = embed_images_by_key(context.model, keys, lambda i: read_image(data, flat[i]), cache)
    cosines = np.einsum("nd,nd->n", rows[0::2].astype(np.float64), rows[1::2].astype(np.float64))
    return [sample.id for (sample, _), cosine in zip(pairs, cosines.tolist(), strict=True) if cosine >= MIN_COSINE]


def image_signatures(
    data: Dataset, samples: Sequence[Sample], cache: AnswerCache, progress: Progress = QUIET
) -> Mapping[str, Bytes]:
    """Difference hash (64 bytes) and 16 × 16 colours of each image by its SHA-256; unreadable images have none.

    Two bits for each cell of a 16 × 16 grid say whether it is clearly brighter, or clearly darker, than the one to its
    left. Signatures are cached by the image's bytes.
    """
    code = code_digest("data/images", "stages/evaluate/suites/validity/contamination")
    first = {sample.image: sample for sample in samples}
    keys = {image: answer_key("look", code, image) for image in first}
    known = cache.get(list(keys.values()))
    missing = [sample for image, sample in first.items() if keys[image] not in known]
    with progress.task("Comparing with training images", len(missing)) as bar:
        for batch in batches(missing, BLOCK):
            computed = {keys[sample.image]: _signature(data, sample) for sample in batch}
            cache.put(computed)
            known |= computed
            bar.advance(len(batch))
    found = {image: known[key] for image, key in keys.items()}
    return {image: np.frombuffer(each, np.uint8) for image, each in found.items() if len(each) == SIGNATURE_BYTES}


def _signature(data: Dataset, sample: Sample) -> bytes:
    image = read_image(data, sample)
    if image is None:
        return b""
    # Reduced by whole pixels to twice the size first: fast, and hardly different.
    grey = np.asarray(image.convert("L").resize((SIDE + 1, SIDE), reducing_gap=2.0), dtype=np.int16)
    steps = np.diff(grey, axis=1)
    cells = image.convert("RGB").resize((SIDE, SIDE), reducing_gap=2.0)
    return np.packbits(np.stack([steps > MIN_STEP, steps < -MIN_STEP])).tobytes() + cells.tobytes()
