"""The embeddings of a folder index: float32 rows in one file that is only appended to, read by memory mapping."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
MAX_LENGTH_ERROR = 1e-2
CHECK_ROWS = 1 << 15  # rows that are checked at a time


class EmbeddingFile:
    """Rows of one width, in a file or in memory.

    Args:
        path: of the file; None for memory.
        width: numbers in a row.
        base: rows to begin with in memory.
    """

    def __init__(self, path: Path | None, width: int, base: Matrix | None = None) -> None:
        self.path, self.width = path, width
        self._memory: list[Matrix] = [] if base is None or not len(base) else [base]

    @property
    def num_rows(self) -> int:
        """The number of whole rows, also of those that are not committed."""
        if self.path is None:
            return sum(map(len, self._memory))
        return self.path.stat().st_size // (4 * self.width) if self.path.exists() else 0

    def write(self, rows: Matrix, start: int) -> None:
        """Write rows (N, D) from row ``start`` on and flush them to the disk, before the catalog names them."""
        content = np.ascontiguousarray(rows, dtype="<f4")
        if self.path is None:
            if start < self.num_rows:
                self._memory = [self.read(start)] if start else []
            self._memory.append(content)
            return
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(handle, "r+b") as file:
            file.seek(4 * self.width * start)
            file.write(content.tobytes())
            file.flush()
            os.fsync(file.fileno())

    def read(self, num_rows: int) -> Matrix:
        """The first rows (num_rows, D); a view of the file, not a copy of it."""
        if self.path is None:
            if len(self._memory) > 1:
                self._memory = [np.concatenate(self._memory)]
            return self._memory[0][:num_rows] if self._memory else np.empty((0, self.width), np.float32)
        if not num_rows:
            return np.empty((0, self.width), np.float32)
        return np.memmap(self.path, dtype="<f4", mode="r", shape=(num_rows, self.width))


def damaged_rows(rows: Matrix) -> list[int]:
    """The places of rows that are not unit vectors: the file was damaged, or truncated and extended by the system."""
    damaged: list[int] = []
    for start in range(0, len(rows), CHECK_ROWS):
        block = np.asarray(rows[start : start + CHECK_ROWS])
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        wrong = ~(np.abs(lengths - 1.0) < MAX_LENGTH_ERROR)
        damaged += (start + np.flatnonzero(wrong)).tolist()
    return damaged
