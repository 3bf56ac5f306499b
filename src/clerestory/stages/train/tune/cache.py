"""Embeddings of a locked tower, computed once and kept in memory-mapped files.

A file's name is the digest of all its numbers depend on: the model's files, the inputs in their order, the code of the
models' room and the environment. Its SHA-256 lies beside it and is checked before use, as a wrong number here would be
learnt from.

Shape suffixes: N pictures or texts, D width of an embedding.
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

CHUNK = 64


class Cache:
    """Kept embeddings of one store.

    Args:
        folder: where they are.
        progress: told about what is computed.

    Attributes:
        computed: rows that were computed so far, not found.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder, self.progress, self.computed = folder, progress, 0

    def rows(
        self, model: str, side: str, inputs: str, count: int, width: int, embed: Callable[[range], Matrix]
    ) -> Matrix:
        """Unit rows ``(N, D)``, read-only and on the disk.

        Args:
            model: digest of the model.
            side: ``image`` or ``text``.
            inputs: digest of all inputs in their order.
            count: N.
            width: D.
            embed: the rows of some inputs.
        """
        key = digest([model, side, inputs, count, width, code_digest("models"), environment_digest()])
        file = self.folder / f"{key}.npy"
        found = _sound(file)
        if found is not None and found.shape == (count, width):
            return found
        with translate_disk_errors(self.folder):
            make_folder(self.folder)
            temporary = temporary_path(self.folder)
            try:
                self._compute(temporary, side, count, width, embed)
                # The sum first: a kill between the two leaves a sum without a file, never a file that is not checked.
                _sum(file).write_text(digest_file(temporary), encoding="utf-8")
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
        return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]  # numpy does not say what a file holds

    def _compute(self, target: Path, side: str, count: int, width: int, embed: Callable[[range], Matrix]) -> None:
        rows_ND = open_memmap(target, mode="w+", dtype=np.float32, shape=(count, width))
        with self.progress.task(f"Embedding with the locked {side} tower", count) as task:
            for start in range(0, count, CHUNK):
                part = range(start, min(start + CHUNK, count))
                rows_ND[start : part.stop] = embed(part)
                self.computed += len(part)
                task.advance(len(part))
        rows_ND.flush()


def plain_rows(count: int, width: int, embed: Callable[[range], Matrix]) -> Matrix:
    """The same in memory, not kept."""
    parts: Sequence[Matrix] = [embed(range(i, min(i + CHUNK, count))) for i in range(0, count, CHUNK)]
    out: Matrix = np.concatenate(parts) if parts else np.empty((0, width), np.float32)
    return out


def _sum(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _sound(file: Path) -> Matrix | None:
    """The rows of a file that is there and undamaged."""
    try:
        if _sum(file).read_text(encoding="utf-8") != digest_file(file):
            return None
        return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]  # as above
    except (OSError, ValueError):
        return None
