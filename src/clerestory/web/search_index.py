"""Looks among the pictures: by words or by likeness, within one style or in all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.search import Hit, Index
from clerestory.core.errors import CapabilityError, not_found
from clerestory.core.sample import Sample
from clerestory.models.protocols import Embedder
from clerestory.stats.ranking import top

STYLE = "style"
COPIES = 16


class Finder:
    """An index with what the search page needs besides.

    Args:
        model: the model that made the index.
        index: the searchable pictures.
    """

    def __init__(self, model: Embedder, index: Index) -> None:
        self.model, self.index = model, index
        self._row = {sample.id: i for i, sample in enumerate(index.samples)}
        of_style: dict[str, list[int]] = {}
        for i, sample in enumerate(index.samples):
            if style := sample.groups.get(STYLE):
                of_style.setdefault(style, []).append(i)
        self._of_style = {style: np.array(rows) for style, rows in sorted(of_style.items())}

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles there are, by name."""
        return tuple(self._of_style)

    def size(self, style: str = "") -> int:
        """How many pictures are looked through."""
        return len(self._of_style[style]) if style else len(self.index)

    def by_words(self, query: str, k: int, style: str = "") -> list[Hit]:
        """The ``k`` pictures that fit the words best, best first; of exact copies only one is given."""
        return self._nearest(self.model.embed_texts([query])[0], k, style)

    def by_picture(self, sample_id: str, k: int, style: str = "") -> list[Hit]:
        """The ``k`` pictures most like one of them, best first; itself and exact copies of any are left out.

        Raises:
            NotFound: there is no such picture.
        """
        sample = self.sample(sample_id)
        row = self.index.at(None)[self._row[sample_id]]
        return self._nearest(row, k, style, without=sample.image) if np.isfinite(row).all() else []

    def sample(self, sample_id: str) -> Sample:
        """A picture by its id.

        Raises:
            NotFound: there is none.
        """
        if sample_id not in self._row:
            raise not_found("picture", sample_id, self._row, fix="choose one from the search page")
        return self.index.samples[self._row[sample_id]]

    def some(self, k: int, style: str = "") -> list[Sample]:
        """``k`` pictures from all over, always the same ones."""
        rows = self._of_style[style] if style else np.arange(len(self.index))
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, num=min(k, len(rows))).astype(int))]
        return [self.index.samples[i] for i in chosen]

    def _nearest(self, query: NDArray[np.float32], k: int, style: str, without: str = "") -> list[Hit]:
        if not np.isfinite(query).all():
            raise CapabilityError("the model gives no usable embedding for this query", "try other words")
        scores = self.index.at(None) @ query
        rows = self._of_style[style] if style else None
        within = scores if rows is None else scores[rows]
        best = top(within, 2 * k + COPIES)
        found: dict[str, Hit] = {}
        for i in (best if rows is None else rows[best]).tolist():
            sample = self.index.samples[i]
            if sample.image != without:
                found.setdefault(sample.image, Hit(sample, float(scores[i])))
        return list(found.values())[:k]
