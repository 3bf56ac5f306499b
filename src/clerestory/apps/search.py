"""Find pictures by words or by another picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import CapabilityError, DataError, InputError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate import embed_dataset
from clerestory.stats.ranking import top
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that was found, and its similarity (cosine, at most 1) to what was asked."""

    sample: Sample
    score: float


class Index:
    """The embeddings of a data set's pictures, in memory, ready to be searched.

    Args:
        model: digest of the model that made them.
        data: digest of the data set.
        samples: the N pictures.
        embeddings: (N, D) unit rows; a row of NaN is a picture that cannot be read, and is never found.
        dims: the nested dimensions: the first ``d`` numbers of an embedding, brought to length 1, are one too.
    """

    def __init__(
        self, model: str, data: str, samples: tuple[Sample, ...], embeddings: Matrix, dims: tuple[int, ...]
    ) -> None:
        self.model = model
        self.data = data
        self.samples = samples
        self.dims = dims
        self._full = embeddings
        self._cuts: dict[int, Matrix] = {}

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def unreadable(self) -> int:
        """How many pictures cannot be found because they cannot be read."""
        return int(np.isnan(self._full[:, 0]).sum())

    def at(self, dim: int | None = None) -> Matrix:
        """The embeddings (N, dim), unit rows; all dimensions for None. A cut is made once and kept."""
        if dim is None or dim == self._full.shape[1]:
            return self._full
        if dim not in self._cuts:
            cut = self._full[:, :dim]
            lengths = np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
            self._cuts[dim] = np.ascontiguousarray(cut / lengths)
        return self._cuts[dim]


def build_index(model: Embedder, data: Dataset, store: Store, progress: Progress = QUIET) -> Index:
    """Embed every picture of a data set, or read the embeddings from the store if that was done before.

    Raises:
        DataError: there is no picture in it.
        CapabilityError: the model gives unusable embeddings; the sample is named.
    """
    if not len(data):
        raise DataError(f"there is no picture in {data.name!r}", "add pictures to it")
    return Index(model.digest, data.digest, data.samples, embed_dataset(model, data, store, progress), model.dims)


def search(model: Embedder, index: Index, query: str, k: int = 20, dim: int | None = None) -> list[Hit]:
    """The ``k`` pictures that fit some words best, best first; equally good ones in the order of their ids.

    Args:
        model: the model that the index was built with.
        index: where to look.
        query: words in any phrasing.
        k: how many pictures to give.
        dim: one of the model's nested dimensions; fewer are faster and less exact. All by default.

    Raises:
        InputError: the query is empty, or ``k`` is less than 1.
        CapabilityError: the index is another model's, or ``dim`` is not a nested dimension of it.
    """
    if not query.strip():
        raise InputError("there is nothing to search for", "give a few words")
    _check(model, index, k, dim)
    return _nearest(index, model.embed_texts([query], dim)[0], k, dim)


def search_by_picture(
    model: Embedder, index: Index, image: Image.Image, k: int = 20, dim: int | None = None
) -> list[Hit]:
    """The ``k`` pictures most like a given one, best first; arguments and errors as in ``search``."""
    _check(model, index, k, dim)
    return _nearest(index, model.embed_images([image], dim)[0], k, dim)


def _check(model: Embedder, index: Index, k: int, dim: int | None) -> None:
    if k < 1:
        raise InputError(f"{k} pictures were asked for", "ask for at least one")
    if model.digest != index.model:
        raise CapabilityError("this index was built with another model", "build it again with this one")
    if dim is not None and dim not in index.dims:
        raise CapabilityError(f"the model has no nested dimension {dim}", f"it has {', '.join(map(str, index.dims))}")


def _nearest(index: Index, query: Matrix, k: int, dim: int | None) -> list[Hit]:
    if not np.isfinite(query).all():
        raise CapabilityError("the model gives no usable embedding for this query", "use another model")
    scores = index.at(dim) @ query
    return [Hit(index.samples[i], float(scores[i])) for i in top(scores, k).tolist()]
