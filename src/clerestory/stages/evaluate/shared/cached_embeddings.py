"""What the model answered, each question asked once: embeddings of pictures and texts by their exact content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import CapabilityError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.shared.sampling import batches
from clerestory.store.answer_cache import AnswerCache, answer_key

if TYPE_CHECKING:
    from PIL import Image

Matrix = NDArray[np.float32]


def embed_images_by_key(
    model: Embedder,
    keys: Sequence[str],
    load: Callable[[int], Image.Image | None],
    memo: AnswerCache,
    progress: Progress = QUIET,
    batch: int = 64,
    label: str = "Embedding pictures",
) -> Matrix:
    """Embeddings (N, D) of pictures, one row per key; unit rows, float32; a picture that cannot be had is all NaN.

    Each answer is kept by the digests of the model, its code and the picture's key, a batch in one transaction: what
    is known is not asked again, and a kill loses one batch at most.

    Args:
        model: the embedder.
        keys: what identifies each picture's exact content: the SHA-256 of its bytes, and of what was done to them.
        load: gives the picture at a place; called only for pictures that are not known.
        memo: where answers are kept.
        progress: told about each batch.
        batch: pictures at a time.
        label: what the progress bar says.

    Raises:
        CapabilityError: the model gives something other than finite unit rows; the picture is named by its key.
    """
    about = ("image", model.digest, code_digest("data/images", "models"))
    names = [answer_key(*about, key) for key in keys]
    known = memo.get(list(dict.fromkeys(names)))
    missing: dict[bytes, int] = {}
    for place, name in enumerate(names):
        if name not in known:
            missing.setdefault(name, place)
    if missing:
        with progress.task(label, len(missing)) as bar:
            for some in batches(missing.items(), batch):
                known |= _ask_pictures(model, some, keys, load, memo)
                bar.advance(len(some))
    return _stack([known.get(name) for name in names], model)


def embed_texts(model: Embedder, texts: Sequence[str], memo: AnswerCache, batch: int = 64) -> Matrix:
    """Embeddings (N, D) of texts; unit rows, float32; each distinct text is asked once and kept.

    Raises:
        CapabilityError: the model gives something other than finite unit rows; the text is named.
    """
    about = ("text", model.digest, code_digest("models"))
    names = [answer_key(*about, text) for text in texts]
    known = memo.get(list(dict.fromkeys(names)))
    missing = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
    for some in batches(missing.items(), batch):
        rows = model.embed_texts([text for _, text in some])
        check_rows(rows, (f"the text {text!r}" for _, text in some))
        answers = {name: _pack(row) for (name, _), row in zip(some, rows, strict=True)}
        memo.put(answers)
        known |= answers
    return _stack([known[name] for name in names], model)


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
            "evaluate an earlier checkpoint, or check the model's files",
        )


def picture_digest(image: Image.Image) -> str:
    """SHA-256 of a decoded picture: its size and its RGB bytes."""
    return hashlib.sha256(f"{image.width}x{image.height}/{image.mode}/".encode() + image.tobytes()).hexdigest()


def _ask_pictures(
    model: Embedder,
    some: Sequence[tuple[bytes, int]],
    keys: Sequence[str],
    load: Callable[[int], Image.Image | None],
    memo: AnswerCache,
) -> dict[bytes, bytes]:
    loaded = [(name, place, load(place)) for name, place in some]
    usable = [(name, place, image) for name, place, image in loaded if image is not None]
    if not usable:
        return {}
    rows = model.embed_images([image for _, _, image in usable])
    check_rows(rows, (f"the picture {keys[place]}" for _, place, _ in usable))
    answers = {name: _pack(row) for (name, _, _), row in zip(usable, rows, strict=True)}
    memo.put(answers)
    return answers


def _pack(row: Matrix) -> bytes:
    return np.ascontiguousarray(row, dtype="<f4").tobytes()


def _stack(found: Sequence[bytes | None], model: Embedder) -> Matrix:
    width = next((len(each) // 4 for each in found if each is not None), max(model.dims))
    matrix = np.full((len(found), width), np.nan, dtype=np.float32)
    for place, each in enumerate(found):
        if each is not None:
            matrix[place] = np.frombuffer(each, dtype="<f4")
    return matrix
