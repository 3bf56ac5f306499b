"""Image search by text or by another image."""

from __future__ import annotations

from collections.abc import Sequence
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
class SearchHit:
    """A sample and the cosine similarity of its image to the query."""

    sample: Sample
    score: float


class SearchIndex:
    """The image embeddings of a dataset, in memory.

    Args:
        model: digest of the model that produced them.
        data: digest of the dataset.
        samples: the N samples; of a large folder they are made when they are needed.
        embeddings: (N, D) unit rows; a row of NaN is an unreadable image, which no search returns.
        dims: the nested (Matryoshka) dimensions: the first ``d`` numbers of an embedding, normalised, are an embedding.
    """

    def __init__(
        self, model: str, data: str, samples: Sequence[Sample], embeddings: Matrix, dims: tuple[int, ...]
    ) -> None:
        self.model = model
        self.data = data
        self.samples = samples
        self.dims = dims
        self._full = embeddings
        self._truncated: dict[int, Matrix] = {}

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def num_unreadable(self) -> int:
        """The number of unreadable images, which no search returns."""
        return int(np.isnan(self._full[:, 0]).sum())

    def embeddings(self, dim: int | None = None) -> Matrix:
        """The embeddings (N, dim) as unit rows, all dimensions by default; each truncation is computed once."""
        if dim is None or dim == self._full.shape[1]:
            return self._full
        if dim not in self._truncated:
            truncated = self._full[:, :dim]
            norms = np.maximum(np.linalg.norm(truncated, axis=1, keepdims=True), 1e-12)
            self._truncated[dim] = np.ascontiguousarray(truncated / norms)
        return self._truncated[dim]


def build_index(model: Embedder, data: Dataset, store: Store, progress: Progress = QUIET) -> SearchIndex:
    """Embed every image of a dataset, or read the cached embeddings from the store.

    Raises:
        DataError: the dataset is empty.
        CapabilityError: an embedding is not finite; names the sample.
    """
    if not len(data):
        raise DataError(f"the dataset {data.name!r} has no images", "add images to it")
    return SearchIndex(model.digest, data.digest, data.samples, embed_dataset(model, data, store, progress), model.dims)


def search(model: Embedder, index: SearchIndex, query: str, k: int = 20, dim: int | None = None) -> list[SearchHit]:
    """The ``k`` images that match a text best, best first; ties are in the order of their ids.

    Args:
        model: the model that built the index.
        index: the images to search.
        query: a text in any phrasing.
        k: the number of hits.
        dim: one of the model's nested dimensions; smaller is faster and less accurate. By default the largest.

    Raises:
        InputError: the query is empty, or ``k`` is less than 1.
        CapabilityError: another model built the index, or ``dim`` is not one of its nested dimensions.
    """
    if not query.strip():
        raise InputError("the query is empty", "enter a few words")
    _check(model, index, k, dim)
    return _nearest(index, model.embed_texts([query], dim)[0], k, dim)


def search_by_image(
    model: Embedder, index: SearchIndex, image: Image.Image, k: int = 20, dim: int | None = None
) -> list[SearchHit]:
    """The ``k`` images most similar to a given one, best first; arguments and errors as in ``search``."""
    _check(model, index, k, dim)
    return _nearest(index, model.embed_images([image], dim)[0], k, dim)


def search_by_embedding(model: Embedder, index: SearchIndex, query: Matrix, k: int = 20) -> list[SearchHit]:
    """The ``k`` images most similar to a query (D), a unit row that the model embedded; errors as in ``search``."""
    _check(model, index, k, None)
    return _nearest(index, query, k, None)


def _check(model: Embedder, index: SearchIndex, k: int, dim: int | None) -> None:
    if k < 1:
        raise InputError(f"the number of images is {k}", "request at least one")
    if model.digest != index.model:
        raise CapabilityError("the index was built by another model", "build it again with this one")
    if dim is not None and dim not in index.dims:
        raise CapabilityError(f"the model has no nested dimension {dim}", f"it has {', '.join(map(str, index.dims))}")


def _nearest(index: SearchIndex, query: Matrix, k: int, dim: int | None) -> list[SearchHit]:
    if not np.isfinite(query).all():
        raise CapabilityError("the embedding of this query is not finite", "use another model")
    scores = index.embeddings(dim) @ query
    return [SearchHit(index.samples[i], float(scores[i])) for i in top(scores, k).tolist()]
