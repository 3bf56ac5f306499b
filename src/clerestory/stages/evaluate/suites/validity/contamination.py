"""Which test pictures were there to learn from: the same bytes, or a picture that looks the same.

Looking the same takes several witnesses: a difference hash of 512 bits that hardly differs (Krawetz 2013), no cell of a
coarse grid whose colour differs visibly, and, where the model embeds pictures, embeddings that are nearly equal. One of
them alone errs on drawings of few lines: a red and a blue heart have one hash, two faces differ in the mouth only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import TRAIN, Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.cached_embeddings import embed_images_by_key
from clerestory.stages.evaluate.shared.embeddings import readable
from clerestory.stages.evaluate.shared.sampling import batches
from clerestory.store.answer_cache import AnswerCache, answer_key

SIDE = 16
HASH = 2 * SIDE * SIDE // 8
BYTES = HASH + SIDE * SIDE * 3
STEP = 4  # of 255 grey levels: less is the noise of compression on a plain ground
NEAR_BITS = 10  # of 512; re-encoding and scaling flip fewer, another drawing of a thing flips dozens
NEAR_LEVELS = 24  # of 255, in the cell that differs most
NEAR_COSINE = 0.98
BLOCK = 512

EXACT, NEAR = "the same bytes", "looks the same"


def overlapping(bench: EvaluationContext, data: Dataset, samples: Sequence[Sample]) -> dict[str, str]:
    """The ids of samples whose picture is also in the split ``train`` of the data, each with how it is known."""
    train = [sample for sample in data if sample.split == TRAIN]
    bytes_of = {sample.image for sample in train}
    found = {sample.id: EXACT for sample in samples if sample.image in bytes_of}
    rest = [sample for sample in samples if sample.id not in found]
    if not train or not rest:
        return found
    pairs = _near_hashes(bench, data, rest, train)
    return found | dict.fromkeys(_agreed(bench, data, pairs), NEAR)


def _near_hashes(
    bench: EvaluationContext, data: Dataset, samples: Sequence[Sample], train: Sequence[Sample]
) -> list[tuple[Sample, Sample]]:
    """For each sample the picture to learn from that looks most like it, where it looks the same."""
    looks = picture_looks(data, [*samples, *train], bench.store.answer_cache, bench.progress)
    learnt = [sample for sample in train if sample.image in looks]
    if not learnt:
        return []
    learnt_bits = np.stack([looks[sample.image][:HASH] for sample in learnt])
    near = []
    for some in batches([sample for sample in samples if sample.image in looks], BLOCK):
        bits = np.stack([looks[sample.image][:HASH] for sample in some])
        distance = _distances(bits, learnt_bits)
        for place, sample in enumerate(some):
            close = np.flatnonzero(distance[place] <= NEAR_BITS).tolist()
            apart = [(_levels(looks[sample.image], looks[learnt[i].image]), i) for i in close]
            if apart and min(apart)[0] <= NEAR_LEVELS:
                near.append((sample, learnt[min(apart)[1]]))
    return near


def _levels(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    """By how many levels the cell and colour differ that differ most."""
    return int(np.abs(left[HASH:].astype(np.int16) - right[HASH:].astype(np.int16)).max())


def _distances(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Bits that differ, (L, R), of hashes (L, 64) and (R, 64)."""
    a, b = (np.unpackbits(each, axis=1).astype(np.float32) for each in (left, right))
    # |a - b| = a + b - 2ab for bits; every number is a small integer, so float32 is exact.
    found: NDArray[np.int32] = (a.sum(1)[:, None] + b.sum(1)[None, :] - 2 * a @ b.T).astype(np.int32)
    return found


def _agreed(bench: EvaluationContext, data: Dataset, pairs: Sequence[tuple[Sample, Sample]]) -> list[str]:
    """The ids of pairs that the model's embeddings find nearly equal too; all of them without an ``Embedder``."""
    if not pairs or not isinstance(bench.model, Embedder):
        return [sample.id for sample, _ in pairs]
    flat = [sample for pair in pairs for sample in pair]
    keys = [sample.image for sample in flat]
    rows = embed_images_by_key(bench.model, keys, lambda place: readable(data, flat[place]), bench.store.answer_cache)
    cosines = np.einsum("nd,nd->n", rows[0::2].astype(np.float64), rows[1::2].astype(np.float64))
    return [sample.id for (sample, _), cosine in zip(pairs, cosines.tolist(), strict=True) if cosine >= NEAR_COSINE]


def picture_looks(
    data: Dataset, samples: Sequence[Sample], memo: AnswerCache, progress: Progress = QUIET
) -> Mapping[str, NDArray[np.uint8]]:
    """Difference hash (64 bytes) and 16 × 16 colours of each picture by its SHA-256; unreadable pictures have none.

    Two bits for each cell of a 16 × 16 grid say whether it is clearly brighter, or clearly darker, than the one to its
    left. A look is kept by the picture's bytes, so it is computed once.
    """
    code = code_digest("data/images", "stages/evaluate/suites/validity/contamination")
    first = {sample.image: sample for sample in samples}
    names = {image: answer_key("look", code, image) for image in first}
    known = memo.get(list(names.values()))
    missing = [sample for image, sample in first.items() if names[image] not in known]
    with progress.task("Looking for pictures seen in training", len(missing)) as bar:
        for some in batches(missing, BLOCK):
            made = {names[s.image]: _look(data, s) for s in some}
            memo.put(made)
            known |= made
            bar.advance(len(some))
    found = {image: known[name] for image, name in names.items()}
    return {image: np.frombuffer(each, np.uint8) for image, each in found.items() if len(each) == BYTES}


def _look(data: Dataset, sample: Sample) -> bytes:
    image = readable(data, sample)
    if image is None:
        return b""
    # By whole pixels to twice the size first: fast, and hardly different.
    grey = np.asarray(image.convert("L").resize((SIDE + 1, SIDE), reducing_gap=2.0), dtype=np.int16)
    steps = np.diff(grey, axis=1)
    cells = image.convert("RGB").resize((SIDE, SIDE), reducing_gap=2.0)
    return np.packbits(np.stack([steps > STEP, steps < -STEP])).tobytes() + cells.tobytes()
