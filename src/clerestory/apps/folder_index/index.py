"""The index of a folder: opened, brought up to date, searched; safe to search from other threads meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clerestory.apps.folder_index.catalog import OTHER, VERSION, Catalog, FileRecord, decode_tags
from clerestory.apps.folder_index.duplicates import DuplicateLists, find_duplicates
from clerestory.apps.folder_index.embedding_file import EmbeddingFile, Matrix, damaged_rows
from clerestory.apps.folder_index.filters import SearchFilter, local_clock
from clerestory.apps.folder_index.reading import ImageFacts
from clerestory.apps.folder_index.snapshot import Snapshot
from clerestory.apps.folder_index.updating import ContentReader, EmbedImages, find_changes
from clerestory.apps.folder_index.walking import Stamp, list_images
from clerestory.apps.tags import Tag
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, Conflict, DataError, InputError, NotWritable
from clerestory.core.files import exclusive_lock, expand_user, make_folder, sync_folder
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.text import valid_unicode
from clerestory.stats.ranking import top
from clerestory.store import Store

FOLDER = "indexes"  # below the home
CATALOG, LOCK = "catalog.db", "lock"
MIN_UNUSED_ROWS = 1024  # the file is rewritten when more rows than these, and more than half of all, are unused
COPY_ROWS = 1 << 14
WAIT_SECONDS = 0.3
SNAPSHOT_SECONDS = 1.0  # between two snapshots while an update runs; then twice as long each time


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or folder that was left out, and why."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class IndexUpdate:
    """What an update did.

    Attributes:
        unchanged: files that were not opened, because their size, time and inode are the same.
        added: files with new content, also those whose content changed.
        moved: files whose content was known: moved, renamed or copied.
        removed: files that are gone, without those that moved.
        embedded: images that were embedded.
        unreadable: every file and folder that cannot be used, also those known from before.
        is_unreadable_known: whether these are the same ones, for the same reasons, as after the update before.
    """

    unchanged: int
    added: int
    moved: int
    removed: int
    embedded: int
    unreadable: tuple[Unreadable, ...]
    is_unreadable_known: bool = False


@dataclass(frozen=True, slots=True)
class FolderHit:
    """An image that matches a query.

    Attributes:
        path: below the folder.
        score: cosine similarity to the query.
        sha256: of the file.
        width, height: pixels.
        date: seconds since 1970 on a local clock: when the photograph was taken, else when the file was changed.
        copies: the other files of the folder with the same bytes.
        tags: what a photograph shows, most probable first; empty means "not sure". None where there are none to be had.
    """

    path: str
    score: float
    sha256: str
    width: int
    height: int
    date: int
    copies: tuple[str, ...] = ()
    tags: tuple[Tag, ...] | None = None


class _CannotStore(Exception):
    """The index cannot be written or read where it is kept; the reason."""


class FolderIndex:
    """The index of one folder for one model; use ``FolderIndex.open``.

    Attributes:
        folder: the indexed folder, absolute.
        directory: where the index is kept.
        model: the digest of the model.
        dims: the nested dimensions of its embeddings; the largest is kept.
        tables: the files of the folder that may hold captions, found by the last update.
    """

    def __init__(self, folder: Path, directory: Path, model: str, dims: Sequence[int]) -> None:
        self.folder, self.directory = folder, directory
        self.model, self.dims = model, tuple(dims)
        self.tables: tuple[str, ...] = ()
        self._width = max(dims)
        self._updating = threading.Lock()
        self._memory: tuple[Catalog, EmbeddingFile] | None = None
        self._snapshot = self._read_snapshot()

    @classmethod
    def open(
        cls, folder: Path | str, store: Store, model_digest: str, dims: Sequence[int], tags_from: str = ""
    ) -> FolderIndex:
        """The index of a folder as it is on the disk, empty for a new folder; ``update`` brings it up to date.

        Args:
            folder: of images.
            store: its home keeps the index.
            model_digest: of the model that embeds.
            dims: its nested dimensions.
            tags_from: what the tags of the images depend on, beside the model; empty for an index without tags.

        Raises:
            DataError: the folder does not exist, or cannot be listed.
        """
        path = expand_user(folder).resolve()
        if not path.is_dir():
            raise DataError(f"{folder} is not a folder", "give the path of a folder of images")
        code = code_digest("data/images", "models")
        name = "-".join(
            (
                digest(os.fsencode(path).hex())[:16],
                model_digest[:16],
                code[:16],
                str(VERSION),
                *filter(None, [tags_from[:8]]),
            )
        )
        return cls(path, store.home / FOLDER / name, model_digest, dims)

    def __len__(self) -> int:
        return len(self._snapshot)

    @property
    def snapshot(self) -> Snapshot:
        """The present state; a search may use it as long as it likes."""
        return self._snapshot

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The files that were found unreadable."""
        return tuple(Unreadable(path, problem) for path, problem in self._snapshot.state.unreadable.items())

    # Search.

    def search(
        self,
        query: Matrix,
        k: int = 20,
        filters: SearchFilter | None = None,
        without: Sequence[str] = (),
    ) -> list[FolderHit]:
        """The ``k`` images most similar to a query, best first; ties in the order of their paths.

        Files with the same bytes are one hit, with the others as its ``copies``. Safe while an update runs.

        Args:
            query: the embedding (D) of the query, a unit row.
            k: the number of hits.
            filters: conditions that the images must meet.
            without: digests (SHA-256) of contents to leave out, such as that of the query image.

        Raises:
            InputError: ``k`` is less than 1.
            CapabilityError: the query is not finite, or has another width.
        """
        if k < 1:
            raise InputError(f"the number of images is {k}", "request at least one")
        if query.shape != (self._width,) or not np.isfinite(query).all():
            raise CapabilityError("the embedding of this query is not finite", "use another query or another model")
        snapshot = self._snapshot
        state = snapshot.state
        places = snapshot.accepted_places(filters or SearchFilter())
        if without:
            left_out = [state.rows[state.sha256.index(each)] for each in set(without) if each in state.sha256]
            places = places[~np.isin(state.rows[places], left_out)]
        scores = snapshot.scores(np.ascontiguousarray(query, np.float32), places)
        return [self._hit(snapshot, int(places[i]), float(scores[i])) for i in top(scores, k).tolist()]

    def _hit(self, snapshot: Snapshot, place: int, score: float) -> FolderHit:
        state = snapshot.state
        same = np.flatnonzero(state.rows == state.rows[place]).tolist() if snapshot.has_copies else []
        taken = int(state.taken[place])
        return FolderHit(
            state.paths[place],
            score,
            state.sha256[place],
            int(state.widths[place]),
            int(state.heights[place]),
            taken if taken >= 0 else local_clock(int(state.changed[place])),
            tuple(state.paths[i] for i in same if i != place),
            decode_tags(state.tags[place]),
        )

    def duplicates(self, progress: Progress = QUIET, min_similarity: float | None = None) -> DuplicateLists:
        """The three lists of duplicates; see ``find_duplicates``."""
        return find_duplicates(self.folder, self._snapshot, progress, min_similarity)

    # Update.

    def update(
        self,
        embed_images: EmbedImages,
        progress: Progress = QUIET,
        *,
        rescan_all: bool = False,
        wait: bool = True,
    ) -> IndexUpdate:
        """Bring the index up to date with the folder.

        A file whose size, time of change and inode are the same is not opened. Content that is known is not embedded
        again. A kill at any moment loses at most one batch. Where nothing can be written the index is kept in memory,
        which is reported in one sentence.

        Args:
            embed_images: images to unit rows (N, D); called only if there are new ones.
            progress: reports the images, and whatever the user should know.
            rescan_all: read every file, to find one that was changed without a new time, and unreadable ones again.
            wait: while another process updates the same index, wait for it; otherwise it is an error.

        Raises:
            DataError: the folder has no image, or cannot be listed; the index stays as it is.
            CapabilityError: an embedding is not a finite unit vector; names the file.
            Conflict: another process updates the index, and ``wait`` is false.
        """
        with self._updating:
            if self._memory is None:
                try:
                    with self._lock(progress, wait):
                        return self._update_stored(embed_images, progress, rescan_all)
                except _CannotStore as error:
                    self._use_memory()
                    progress.write_line(
                        f"notice: the index of {self.folder} cannot be stored ({error}), so it is kept in memory and "
                        "made again next time; free space and allow writing there, or choose another folder with --home"
                    )
            catalog, embeddings = self._memory or (Catalog(None), EmbeddingFile(None, self._width))
            return self._update(catalog, embeddings, embed_images, progress, rescan_all)

    def _update_stored(self, embed_images: EmbedImages, progress: Progress, rescan_all: bool) -> IndexUpdate:
        with _storing():
            catalog = self._open_catalog(progress)
        try:
            with _storing():
                embeddings = self._repair(catalog)
            done = self._update(catalog, embeddings, embed_images, progress, rescan_all)
        finally:
            catalog.close()
        self._remove_outdated()
        return done

    def _remove_outdated(self) -> None:
        """Delete the indexes of this folder and model that another version of the code made, unless one is in use."""
        own = self.directory.name.split("-")
        for other in self.directory.parent.glob(f"{'-'.join(own[:2])}-*"):
            parts = other.name.split("-")
            is_with_tags_or_without = parts[2:4] == own[2:4] and len(parts) != len(own)  # the other one of the two
            if other != self.directory and not is_with_tags_or_without:
                with suppress(Conflict, OSError), exclusive_lock(other / LOCK, "an older index"):
                    shutil.rmtree(other, ignore_errors=True)

    def _open_catalog(self, progress: Progress) -> Catalog:
        file = self.directory / CATALOG
        try:
            return Catalog(file)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # not a database, or a damaged one
            progress.write_line(f"notice: the index of {self.folder} was damaged and is made again")
            for name in os.listdir(self.directory):
                if name != LOCK:
                    (self.directory / name).unlink()
            return Catalog(file)

    def _repair(self, catalog: Catalog) -> EmbeddingFile:
        """The embedding file, after rows that it does not have, or that are damaged, were forgotten."""
        embeddings = EmbeddingFile(self._embedding_path(catalog.generation), self._width)
        num_rows = catalog.num_rows()
        present = min(num_rows, embeddings.num_rows)
        if damaged := [*damaged_rows(embeddings.read(present)), *range(present, num_rows)]:
            catalog.forget_images(damaged)
        for name in os.listdir(self.directory):  # of a rewriting that was killed
            if name.startswith("embeddings-") and name != embeddings.path.name:  # type: ignore[union-attr]  # an index on the disk has a file
                (self.directory / name).unlink(missing_ok=True)
        return embeddings

    def _update(
        self,
        catalog: Catalog,
        embeddings: EmbeddingFile,
        embed_images: EmbedImages,
        progress: Progress,
        rescan_all: bool,
    ) -> IndexUpdate:
        import PIL

        with _storing():
            records, known = catalog.files(), set(catalog.image_rows())
            retry = catalog.fact("decoder") != PIL.__version__

        def is_other(path: str, stamp: Stamp) -> bool:
            record = records.get(path)
            return record is not None and record.kind == OTHER and record.stamp == stamp

        listing = list_images(self.folder, is_other)
        if not listing.images:
            if problem := listing.problems.get("."):
                raise DataError(f"the folder {self.folder} cannot be read: {problem}", "check its permissions")
            for path, problem in sorted(listing.problems.items()):
                raise DataError(
                    f"the folder {self.folder} has no images that can be read; {valid_unicode(path)}: {problem}",
                    "give the folder that contains the images, or check its permissions",
                )
            raise DataError(f"the folder {self.folder} has no images", "give a folder with JPEG, PNG or WEBP files")
        self.tables = tuple(sorted(listing.tables))
        changes = find_changes(listing, records, rescan_all, retry)
        with _storing():
            if changes.moved or changes.gone or changes.others:
                catalog.write([*changes.moved, *changes.others], removed=changes.gone)
        again = retry or rescan_all
        problems = {r.sha256: r.problem for r in records.values() if r.problem and r.sha256 and not again}
        reader = ContentReader(self.folder, _Writer(self, catalog, embeddings), known, problems, embed_images)
        before = set(known)
        try:
            if changes.pending:
                reader.run(changes.pending, progress)
        except KeyboardInterrupt:
            done = f"{len(reader.read):,} of {len(changes.pending):,} files are indexed"
            progress.write_line(f"{done}; the same command indexes the rest")
            raise
        finally:
            with suppress(_CannotStore), _storing():
                snapshot = self._make_snapshot(catalog, embeddings)
                if not snapshot.state.same_as(self._snapshot.state):  # else the values computed from it are kept
                    self._snapshot = snapshot
        with _storing():
            if retry:
                catalog.set_fact("decoder", PIL.__version__)
            if self._compact(catalog, embeddings):
                self._snapshot = self._read_snapshot()
        read = [file for file in reader.read.values() if not file.problem]
        contents = {record.sha256 for path in changes.gone if (record := records[path]).sha256}
        moved = [file for file in read if file.sha256 in before and file.path not in records]
        came_back = sum(file.sha256 in contents for file in moved)
        unread = [Unreadable(path, problem) for path, problem in sorted(listing.problems.items())]
        unreadable = (*unread, *self.unreadable)
        known_as = digest([[os.fsencode(each.path).hex(), each.problem] for each in unreadable])
        with _storing():
            is_known = catalog.fact("unreadable") == known_as
            if not is_known:
                catalog.set_fact("unreadable", known_as)
        gone = sum(records[path].kind != OTHER for path in changes.gone)
        return IndexUpdate(
            unchanged=changes.unchanged + sum(f.path in records and records[f.path].sha256 == f.sha256 for f in read),
            added=sum(f.sha256 not in before or f.path in records and records[f.path].sha256 != f.sha256 for f in read),
            moved=len(moved) + len(changes.moved),
            removed=max(0, gone - came_back - len(changes.moved)),
            embedded=reader.embedded,
            unreadable=unreadable,
            is_unreadable_known=is_known,
        )

    def _compact(self, catalog: Catalog, embeddings: EmbeddingFile) -> bool:
        """Rewrite the embedding file without unused rows if they are many; whether it was done."""
        if embeddings.path is None:
            return False
        used, num_rows = catalog.used_rows(), catalog.num_rows()
        if num_rows - len(used) <= max(MIN_UNUSED_ROWS, len(used)):
            return False
        generation = catalog.generation + 1
        target = EmbeddingFile(self._embedding_path(generation), self._width)
        source = embeddings.read(num_rows)
        for start in range(0, len(used), COPY_ROWS):
            target.write(source[used[start : start + COPY_ROWS]], start)
        sync_folder(self.directory)
        catalog.renumber(used, generation)
        # A reader that has the old file open keeps it; its name is no longer needed.
        embeddings.path.unlink(missing_ok=True)
        return True

    # Where it is kept.

    def _embedding_path(self, generation: int) -> Path:
        return self.directory / f"embeddings-{generation}.f32"

    def _read_snapshot(self) -> Snapshot:
        """The state on the disk; an empty one if there is none, or if it cannot be read."""
        file = self.directory / CATALOG
        if not file.exists():
            return self._empty()
        for _ in range(3):
            try:
                catalog = Catalog(file, writable=os.access(self.directory, os.W_OK) and os.access(file, os.W_OK))
                try:
                    embeddings = EmbeddingFile(self._embedding_path(catalog.generation), self._width)
                    return self._make_snapshot(catalog, embeddings)
                finally:
                    catalog.close()
            except FileNotFoundError:  # another process has just rewritten the file
                continue
            except (OSError, sqlite3.Error, ValueError):
                break
        return self._empty()

    def _empty(self) -> Snapshot:
        with contextlib.closing(Catalog(None)) as catalog:
            return self._make_snapshot(catalog, EmbeddingFile(None, self._width))

    def _make_snapshot(self, catalog: Catalog, embeddings: EmbeddingFile) -> Snapshot:
        """The committed state without rows that the file lacks or that are damaged."""
        state = catalog.state()
        present = min(state.num_rows, embeddings.num_rows)
        matrix = embeddings.read(present)
        damaged = np.zeros(state.num_rows, bool)
        damaged[present:] = True
        damaged[damaged_rows(matrix)] = True
        return Snapshot(state.without_rows(damaged), matrix)

    def _use_memory(self) -> None:
        """Go on in memory, with what is on the disk."""
        catalog = Catalog(None)
        with suppress(OSError, sqlite3.Error):
            stored = Catalog(self.directory / CATALOG, writable=False)
            try:
                catalog = stored.copy_to_memory()
            finally:
                stored.close()
        base = EmbeddingFile(self._embedding_path(catalog.generation), self._width)
        num_rows = catalog.num_rows()
        present = min(num_rows, base.num_rows)
        matrix = base.read(present)
        catalog.forget_images([*damaged_rows(matrix), *range(present, num_rows)])
        self._memory = (catalog, EmbeddingFile(None, self._width, matrix))

    @contextmanager
    def _lock(self, progress: Progress, wait: bool) -> Iterator[None]:
        """Hold the lock of the index between processes."""
        with _storing():
            make_folder(self.directory)
        said = False
        while True:
            lock = exclusive_lock(self.directory / LOCK, f"indexing {self.folder}")
            try:
                with _storing():
                    lock.__enter__()
                break
            except Conflict as error:
                if not wait:
                    raise
                if not said:
                    progress.write_line(f"notice: {error.message}; waiting for it")
                    said = True
                time.sleep(WAIT_SECONDS)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.__exit__(None, None, None)


class _Writer:
    """Writes batches: first the rows, then the catalog that names them; and refreshes the snapshot now and then."""

    def __init__(self, index: FolderIndex, catalog: Catalog, embeddings: EmbeddingFile) -> None:
        self._index, self._catalog, self._embeddings = index, catalog, embeddings
        self._pause, self._last = SNAPSHOT_SECONDS, time.monotonic()

    def record(self, files: Sequence[FileRecord], images: Sequence[tuple[str, ImageFacts]], rows: Matrix) -> None:
        with _storing():
            start = self._catalog.num_rows()
            if len(rows):
                self._embeddings.write(rows, start)
            numbered = [(sha256, start + i, facts) for i, (sha256, facts) in enumerate(images)]
            self._catalog.write(files, numbered)
            if time.monotonic() - self._last > self._pause:
                self._index._snapshot = self._index._make_snapshot(self._catalog, self._embeddings)
                self._pause, self._last = 2 * self._pause, time.monotonic()


@contextmanager
def _storing() -> Iterator[None]:
    """Turn the errors of disks and of SQLite into ``_CannotStore``."""
    try:
        yield
    except NotWritable as error:
        raise _CannotStore(error.message) from error
    except OSError as error:
        raise _CannotStore(error.strerror or str(error)) from error
    except sqlite3.Error as error:
        raise _CannotStore(str(error)) from error
