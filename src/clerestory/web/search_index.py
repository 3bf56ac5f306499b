"""Search over an index: by text or by image, within one style or all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.search import SearchHit, SearchIndex
from clerestory.core.errors import CapabilityError, not_found
from clerestory.core.sample import Sample
from clerestory.models.protocols import Embedder
from clerestory.stats.ranking import top

STYLE = "style"
SPARE_HITS = 16  # searched beyond twice the requested number, so that enough remain once exact copies are merged


class ImageSearcher:
    """An index with what the search page needs besides: styles, look-up by id, one hit for exact copies.

    Args:
        model: the model that built the index.
        index: the searchable images.
    """

    def __init__(self, model: Embedder, index: SearchIndex) -> None:
        self.model, self.index = model, index
        self._row = {sample.id: i for i, sample in enumerate(index.samples)}
        rows_by_style: dict[str, list[int]] = {}
        for i, sample in enumerate(index.samples):
            if style := sample.groups.get(STYLE):
                rows_by_style.setdefault(style, []).append(i)
        self._rows_by_style = {style: np.array(rows) for style, rows in sorted(rows_by_style.items())}

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of the styles, sorted."""
        return tuple(self._rows_by_style)

    def size(self, style: str = "") -> int:
        """The number of images of a style, or of all."""
        return len(self._rows_by_style[style]) if style else len(self.index)

    def by_text(self, query: str, k: int, style: str = "") -> list[SearchHit]:
        """The ``k`` images that match a text best, best first; one hit for each group of exact copies."""
        return self.nearest(self.model.embed_texts([query])[0], k, style)

    def by_image(self, sample_id: str, k: int, style: str = "") -> list[SearchHit]:
        """The ``k`` images most similar to an indexed one, best first, without itself and exact copies.

        Raises:
            NotFound: no sample has this id.
        """
        sample = self.sample(sample_id)
        row = self.index.embeddings()[self._row[sample_id]]
        return self.nearest(row, k, style, without=sample.image) if np.isfinite(row).all() else []

    def sample(self, sample_id: str) -> Sample:
        """A sample by its id.

        Raises:
            NotFound: no sample has this id.
        """
        if sample_id not in self._row:
            raise not_found("picture", sample_id, self._row, fix="choose one from the search page")
        return self.index.samples[self._row[sample_id]]

    def spread(self, k: int, style: str = "") -> list[Sample]:
        """``k`` samples at equal distances over the index, always the same ones."""
        rows = self._rows_by_style[style] if style else np.arange(len(self.index))
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, num=min(k, len(rows))).astype(int))]
        return [self.index.samples[i] for i in chosen]

    def nearest(self, query: NDArray[np.float32], k: int, style: str = "", without: str = "") -> list[SearchHit]:
        """The ``k`` images whose embeddings are most similar to that of a query, best first.

        Args:
            query: a unit row (D).
            k: the number of hits.
            style: only images of this style; of all when empty.
            without: the digest of an image to leave out.

        Raises:
            CapabilityError: the query is not finite.
        """
        if not np.isfinite(query).all():
            raise CapabilityError("the embedding of this query is not finite", "try other words")
        scores = self.index.embeddings() @ query
        rows = self._rows_by_style[style] if style else None
        best = top(scores if rows is None else scores[rows], 2 * k + SPARE_HITS)
        hits: dict[str, SearchHit] = {}
        for i in (best if rows is None else rows[best]).tolist():
            sample = self.index.samples[i]
            if sample.image != without:
                hits.setdefault(sample.image, SearchHit(sample, float(scores[i])))
        return list(hits.values())[:k]
