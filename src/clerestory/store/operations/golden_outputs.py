"""What a model answers to the golden inputs, a fixed sample of texts and images: stored once, compared after each load.

They are a blob of the store under the digest of the model, so they cannot be those of another model.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clerestory.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GOLDEN_VERSION = 1  # of the inputs
MIN_COSINE = 0.999  # between an output and the stored one: other machines and thread counts change the last bits
MIN_SPACE_COSINE = 0.95  # on average, between the outputs of two models whose embeddings can be searched together


@dataclass(frozen=True, slots=True, eq=False)
class GoldenOutputs:
    """The outputs of one model.

    Attributes:
        texts, images: unit rows (N, D) of the embeddings; None if the model makes none.
        captions: of the first images; empty if the model writes none.
    """

    texts: NDArray[np.float32] | None
    images: NDArray[np.float32] | None
    captions: tuple[str, ...] = ()


def write_golden(store: Store, model: str, outputs: GoldenOutputs) -> None:
    """Store the outputs of a model; where nothing can be written they are made again the next time."""
    import numpy as np

    buffer = io.BytesIO()
    captions = np.frombuffer(json.dumps(outputs.captions).encode(), dtype=np.uint8)
    empty = np.empty((0, 0), dtype=np.float32)
    texts, images = (empty if rows is None else rows for rows in (outputs.texts, outputs.images))
    np.savez(buffer, captions=captions, texts=texts, images=images)
    store.cache_content(_key(model), buffer.getvalue())


def read_golden(store: Store, model: str) -> GoldenOutputs | None:
    """The stored outputs of a model; None if there are none."""
    import numpy as np

    content = store.cache_read(_key(model))
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        captions = tuple(json.loads(file["captions"].tobytes()))
        texts, images = (file[name] if file[name].size else None for name in ("texts", "images"))
        return GoldenOutputs(texts, images, captions)


def describe_difference(expected: GoldenOutputs, actual: GoldenOutputs) -> str:
    """How the outputs of a model differ from the stored ones, in one sentence; empty if they are the same.

    Captions must be equal where the embeddings are equal to the last digits; elsewhere another machine may choose
    another word.
    """
    import numpy as np

    exact = True
    for kind, old, new in (("texts", expected.texts, actual.texts), ("images", expected.images, actual.images)):
        if old is None or new is None:
            if old is not new:
                return f"the model {'embeds' if old is None else 'does not embed'} {kind}"
            continue
        if old.shape != new.shape:
            return f"the embeddings of {kind} have the shape {new.shape}, not {old.shape}"
        if not np.isfinite(new).all():
            return f"embeddings of {kind} are not finite"
        lowest = float((old * new).sum(axis=1).min())
        if lowest < MIN_COSINE:
            return f"the cosine of the embeddings of {kind} with the stored ones is {lowest:.4f}, below {MIN_COSINE}"
        exact = exact and bool(np.abs(old - new).max() < 1e-6)
    if exact and expected.captions != actual.captions:
        return "the captions differ from the stored ones"
    return ""


def space_difference(old: GoldenOutputs, new: GoldenOutputs) -> str:
    """Why embeddings of two models cannot be searched in one index, in one sentence; empty if they can."""
    for kind, before, after in (("texts", old.texts, new.texts), ("images", old.images, new.images)):
        if before is None:
            continue
        if after is None:
            return f"it does not embed {kind}"
        if before.shape[1] != after.shape[1]:
            return f"its embeddings have {after.shape[1]} dimensions, not {before.shape[1]}"
        cosine = float((before * after).sum(axis=1).mean())
        if cosine < MIN_SPACE_COSINE:
            return f"the same {kind} are embedded elsewhere: the mean cosine is {cosine:.2f}, below {MIN_SPACE_COSINE}"
    return ""


def _key(model: str) -> str:
    return f"golden/{GOLDEN_VERSION}/{model}"
