"""Embeddings of a locked tower, computed once and stored in memory-mapped files.

A file's name is the digest of everything its content depends on: the model's files, the inputs in their order, the
code of ``models`` and the environment. Its SHA-256 is in a file beside it and checked before use, since
training would not notice a corrupt file.

Shape suffixes: N images or texts, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from clerestory.core.digest import digest, digest_file
from clerestory.core.files import make_folder, temporary_path, translate_disk_errors
from clerestory.core.progress import Progress
from clerestory.core.provenance import code_digest, environment_digest
from clerestory.models.protocols import Matrix

CHUNK_SIZE = 64


class EmbeddingCache:
    """The stored embeddings of one store.

    Args:
        folder: of the files.
        progress: reports the progress of a computation.

    Attributes:
        num_computed: rows computed so far, because they were not in the cache.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder, self.progress, self.num_computed = folder, progress, 0

    def rows(
        self, model: str, tower: str, inputs: str, count: int, width: int, embed: Callable[[range], Matrix]
    ) -> Matrix:
        """Unit rows ``(N, D)``, read-only and on the disk.

        Args:
            model: digest of the model.
            tower: ``image`` or ``text``.
            inputs: digest of all inputs in their order.
            count: N.
            width: D.
            embed: computes the rows of a range of inputs.
        """
        key = digest([model, tower, inputs, count, width, code_digest("models"), environment_digest()])
        file = self.folder / f"{key}.npy"
        stored = _read_verified(file)
        if stored is not None and stored.shape == (count, width):
            return stored
        with translate_disk_errors(self.folder):
            make_folder(self.folder)
            temporary = temporary_path(self.folder)
            try:
                self._compute(temporary, tower, count, width, embed)
                # The checksum first: a kill between the two leaves no file without a checksum.
                _checksum(file).write_text(digest_file(temporary), encoding="utf-8")
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
        return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]  # numpy does not type it

    def _compute(self, target: Path, tower: str, count: int, width: int, embed: Callable[[range], Matrix]) -> None:
        rows_ND = open_memmap(target, mode="w+", dtype=np.float32, shape=(count, width))
        with self.progress.task(f"Embedding with the locked {tower} tower", count) as task:
            for start in range(0, count, CHUNK_SIZE):
                chunk = range(start, min(start + CHUNK_SIZE, count))
                rows_ND[start : chunk.stop] = embed(chunk)
                self.num_computed += len(chunk)
                task.advance(len(chunk))
        rows_ND.flush()


def uncached_rows(count: int, width: int, embed: Callable[[range], Matrix]) -> Matrix:
    """As ``EmbeddingCache.rows``, in memory and not stored."""
    blocks: Sequence[Matrix] = [embed(range(i, min(i + CHUNK_SIZE, count))) for i in range(0, count, CHUNK_SIZE)]
    out: Matrix = np.concatenate(blocks) if blocks else np.empty((0, width), np.float32)
    return out


def _checksum(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _read_verified(file: Path) -> Matrix | None:
    """The rows of a file that exists and matches its checksum."""
    try:
        if _checksum(file).read_text(encoding="utf-8") != digest_file(file):
            return None
        return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]  # numpy does not type it
    except (OSError, ValueError):
        return None
