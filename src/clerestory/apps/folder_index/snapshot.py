"""One state of a folder index, which no update changes: what a search reads."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.folder_index.catalog import CatalogState
from clerestory.apps.folder_index.embedding_file import Matrix
from clerestory.apps.folder_index.filters import SearchFilter, local_dates

MAX_FILTERS = 32  # whose places are kept


@dataclass(frozen=True)
class Snapshot:
    """One state of the index, which no update changes.

    Attributes:
        state: the files, in the order of their paths.
        matrix: the embeddings by row, a view of the file.
    """

    state: CatalogState
    matrix: Matrix

    def __len__(self) -> int:
        return len(self.state.paths)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the paths and contents of the images."""
        hasher = hashlib.sha256()
        for path, sha256 in zip(self.state.paths, self.state.sha256, strict=True):
            hasher.update(os.fsencode(path) + b"\0" + sha256.encode() + b"\n")
        return hasher.hexdigest()

    @cached_property
    def embeddings(self) -> Matrix:
        """The embedding of each image (N, D) in the order of the paths; without a copy where the rows are in order."""
        rows = self.state.rows
        if len(rows) == len(self.matrix) and (rows == np.arange(len(rows))).all():
            return self.matrix
        return np.asarray(self.matrix)[rows]

    @cached_property
    def first_places(self) -> NDArray[np.int64]:
        """The place of the first path of each content, ascending."""
        return np.sort(np.unique(self.state.rows, return_index=True)[1])

    def accepted_places(self, filters: SearchFilter) -> NDArray[np.int64]:
        """The place of the first path of each content that meets the conditions, ascending; kept for the next query."""
        if filters == SearchFilter():
            return self.first_places
        if (known := self._accepted.get(filters)) is None:
            accepted = np.flatnonzero(filters.mask(self.state))
            known = accepted[np.sort(np.unique(self.state.rows[accepted], return_index=True)[1])]
            if len(self._accepted) >= MAX_FILTERS:
                self._accepted.clear()
            self._accepted[filters] = known
        return known

    @cached_property
    def _accepted(self) -> dict[SearchFilter, NDArray[np.int64]]:
        return {}

    @property
    def has_copies(self) -> bool:
        """Whether any two files have the same bytes."""
        return len(self.first_places) < len(self)

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each path."""
        return {path: place for place, path in enumerate(self.state.paths)}

    @cached_property
    def dates(self) -> NDArray[np.int64]:
        """The date of each image (N), as seconds since 1970 on a local clock: taken, else last changed."""
        return local_dates(self.state)

    def scores(self, query: Matrix, places: NDArray[np.int64]) -> Matrix:
        """The similarity of the images at some places (P) to a query (D); the file is read, not copied."""
        rows, matrix = self.state.rows[places], np.asarray(self.matrix)
        # Gathering rows costs about as much as multiplying four times as many in their order.
        scores: Matrix = matrix[rows] @ query if 4 * len(rows) < len(matrix) else (matrix @ query)[rows]
        return scores
