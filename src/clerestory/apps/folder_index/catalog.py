"""The catalog of a folder index: one small SQLite file, or a database in memory where nothing can be written.

A row of the embedding file belongs to a content (SHA-256), never to a path: a file that is moved, renamed or copied
keeps its row, and a row is written once. So a reader that holds an older state never sees another image's embedding.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.folder_index.reading import ImageFacts
from clerestory.apps.folder_index.walking import Stamp
from clerestory.apps.tags import Tag

VERSION = 3
TIMEOUT_SECONDS = 60.0
COLOUR_BYTES = 48
IMAGE, UNREADABLE, OTHER = 0, 1, 2  # kinds of files
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  inode INTEGER NOT NULL, kind INTEGER NOT NULL, sha256 TEXT NOT NULL, problem TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (sha256 TEXT PRIMARY KEY, row INTEGER NOT NULL UNIQUE, width INTEGER NOT NULL,
  height INTEGER NOT NULL, phash INTEGER NOT NULL, colours BLOB NOT NULL, taken INTEGER, tags TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What the catalog says about a file: its stamp, kind, digest, and the problem of an unreadable one."""

    path: str
    stamp: Stamp
    kind: int
    sha256: str
    problem: str


@dataclass(frozen=True, slots=True)
class CatalogState:
    """The images of the folder, all arrays in the order of the paths.

    Attributes:
        generation: of the embedding file.
        paths: below the folder, sorted.
        sha256: of each file.
        rows: of the embedding file.
        num_rows: rows of the embedding file that are committed.
        widths, heights: pixels.
        phashes: 64 bits each.
        colours: of the grid of each image (N, 48), 0 to 255.
        taken: when each photograph was taken, as seconds since 1970 in the camera's time; -1 where that is not known.
        changed: when each file was last changed, as seconds since 1970.
        sizes: bytes of each file.
        tags: of each image as JSON, which ``decode_tags`` reads; None where there are none to be had.
        unreadable: the problem of each unreadable file, by path.
    """

    generation: int
    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    rows: NDArray[np.int64]
    num_rows: int
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    phashes: NDArray[np.int64]
    colours: NDArray[np.uint8]
    taken: NDArray[np.int64]
    changed: NDArray[np.int64]
    sizes: NDArray[np.int64]
    tags: tuple[str | None, ...]
    unreadable: dict[str, str]

    def same_as(self, other: CatalogState) -> bool:
        """Whether the other state has the same files with the same content and time, in the same embedding file."""
        return (
            (self.generation, self.num_rows, self.paths, self.sha256, self.unreadable)
            == (other.generation, other.num_rows, other.paths, other.sha256, other.unreadable)
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.changed, other.changed)
        )

    def without_rows(self, left_out: NDArray[np.bool_]) -> CatalogState:
        """The state without the images whose row is marked (num_rows)."""
        if not left_out.any():
            return self
        kept = ~left_out[self.rows]
        chosen = kept.tolist()
        return replace(
            self,
            paths=tuple(itertools.compress(self.paths, chosen)),
            sha256=tuple(itertools.compress(self.sha256, chosen)),
            rows=self.rows[kept],
            widths=self.widths[kept],
            heights=self.heights[kept],
            phashes=self.phashes[kept],
            colours=self.colours[kept],
            taken=self.taken[kept],
            changed=self.changed[kept],
            sizes=self.sizes[kept],
            tags=tuple(itertools.compress(self.tags, chosen)),
        )


def encode_tags(tags: Sequence[Tag] | None) -> str | None:
    """Tags as the catalog keeps them."""
    return None if tags is None else json.dumps([[tag.text, round(tag.probability, 4)] for tag in tags])


def decode_tags(text: str | None) -> tuple[Tag, ...] | None:
    """Tags that the catalog has kept."""
    return None if text is None else tuple(Tag(str(name), float(p)) for name, p in json.loads(text))


class Catalog:
    """The catalog in a file, or in memory.

    Args:
        file: of SQLite; None for memory.
        writable: whether changes are possible.
    """

    def __init__(self, file: Path | None, writable: bool = True) -> None:
        self.file = file
        if file is None:
            self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        elif writable:
            self._connection = sqlite3.connect(file, TIMEOUT_SECONDS, check_same_thread=False)
        else:
            uri = f"{file.resolve().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(uri, TIMEOUT_SECONDS, uri=True, check_same_thread=False)
        if writable:
            with self._connection:
                self._connection.executescript(_SCHEMA)
                self._connection.execute(
                    "INSERT OR IGNORE INTO facts VALUES ('version', ?), ('generation', '0')", (str(VERSION),)
                )

    def copy_to_memory(self) -> Catalog:
        """The same catalog in memory, for a disk on which nothing can be written."""
        copy = Catalog(None)
        with closing(copy._connection.cursor()):
            self._connection.backup(copy._connection)
        return copy

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def generation(self) -> int:
        """The number of the present embedding file; it changes when unused rows are dropped."""
        return int(self.fact("generation", "0"))

    def fact(self, key: str, default: str = "") -> str:
        """A fact about the index, such as the version of the decoder that found some files unreadable."""
        found = self._connection.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return str(found[0]) if found else default

    def set_fact(self, key: str, value: str) -> None:
        """Record a fact."""
        with self._connection as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def files(self) -> dict[str, FileRecord]:
        """Every known file by path."""
        query = "SELECT path, size, mtime_ns, inode, kind, sha256, problem FROM files"
        records = {}
        for path, size, mtime, inode, kind, sha256, problem in self._connection.execute(query):
            name = os.fsdecode(path)
            records[name] = FileRecord(name, (size, mtime, inode), kind, sha256, problem)
        return records

    def image_rows(self) -> dict[str, int]:
        """The row of every known content, also of content that no file has any more."""
        return dict(self._connection.execute("SELECT sha256, row FROM images").fetchall())

    def num_rows(self) -> int:
        """The number of committed rows."""
        return int(self._connection.execute("SELECT coalesce(max(row) + 1, 0) FROM images").fetchone()[0])

    def write(
        self,
        files: Iterable[FileRecord] = (),
        images: Iterable[tuple[str, int, ImageFacts]] = (),
        removed: Iterable[str] = (),
    ) -> None:
        """Record files, new images with their rows, and files that are gone, in one transaction."""
        with self._connection as connection:
            connection.executemany("DELETE FROM files WHERE path = ?", [(os.fsencode(path),) for path in removed])
            connection.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (sha, row, f.width, f.height, f.phash, f.colours, f.taken, encode_tags(f.tags))
                    for sha, row, f in images
                ],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(os.fsencode(f.path), *f.stamp, f.kind, f.sha256, f.problem) for f in files],
            )

    def forget_images(self, rows: Sequence[int]) -> None:
        """Forget the contents of damaged rows, and the files that have them, which are then read again."""
        with self._connection as connection:
            marks = [(row,) for row in rows]
            connection.executemany("DELETE FROM files WHERE sha256 IN (SELECT sha256 FROM images WHERE row = ?)", marks)
            connection.executemany("DELETE FROM images WHERE row = ?", marks)

    def used_rows(self) -> list[int]:
        """The rows of contents that at least one file has, ascending."""
        query = "SELECT DISTINCT row FROM images JOIN files USING (sha256) WHERE kind = ? ORDER BY row"
        return [row for (row,) in self._connection.execute(query, (IMAGE,))]

    def renumber(self, kept: Sequence[int], generation: int) -> None:
        """Drop all rows but those kept, which get the numbers 0, 1, … in the embedding file of a new generation."""
        with self._connection as connection:
            connection.execute("CREATE TEMP TABLE kept (old INTEGER PRIMARY KEY, new INTEGER)")
            connection.executemany("INSERT INTO kept VALUES (?, ?)", [(old, new) for new, old in enumerate(kept)])
            connection.execute("DELETE FROM images WHERE row NOT IN (SELECT old FROM kept)")
            # Ascending, so that no two images have the same row in between: a new number is at most the old one.
            connection.execute("UPDATE images SET row = -1 - (SELECT new FROM kept WHERE old = row)")
            connection.execute("UPDATE images SET row = -1 - row")
            connection.execute("UPDATE facts SET value = ? WHERE key = 'generation'", (str(generation),))
            connection.execute("DROP TABLE kept")

    def state(self) -> CatalogState:
        """The present state, from one transaction."""
        query = (
            "SELECT path, files.sha256, colours, tags, row, width, height, phash, coalesce(taken, -1), "
            "mtime_ns / 1000000000, size "
            "FROM files JOIN images USING (sha256) WHERE kind = 0 ORDER BY path"
        )
        connection = self._connection
        connection.execute("BEGIN")
        try:
            generation, num_rows = self.generation, self.num_rows()
            found = connection.execute(query).fetchall()
            problems = connection.execute("SELECT path, problem FROM files WHERE kind = 1 ORDER BY path").fetchall()
        finally:
            connection.rollback()
        numbers = np.array([row[4:] for row in found], dtype=np.int64).reshape(len(found), 7)
        rows, widths, heights, phashes, taken, changed, sizes = np.ascontiguousarray(numbers.T)
        return CatalogState(
            generation,
            tuple(os.fsdecode(row[0]) for row in found),
            tuple(row[1] for row in found),
            rows,
            num_rows,
            widths,
            heights,
            phashes,
            np.frombuffer(b"".join(row[2] for row in found), np.uint8).reshape(len(found), COLOUR_BYTES),
            taken,
            changed,
            sizes,
            tuple(row[3] for row in found),
            {os.fsdecode(path): problem for path, problem in problems},
        )
