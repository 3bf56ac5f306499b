"""Bringing a folder index up to date: what changed, which files are read, which images are embedded."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from clerestory.apps.folder_index.catalog import IMAGE, OTHER, UNREADABLE, FileRecord
from clerestory.apps.folder_index.embedding_file import Matrix
from clerestory.apps.folder_index.reading import ImageFacts, ReadFile, read_file
from clerestory.apps.folder_index.walking import Listing, Stamp
from clerestory.apps.tags import Tag
from clerestory.core.progress import Progress
from clerestory.stages.evaluate.cached_embeddings import check_unit_rows

if TYPE_CHECKING:
    from PIL import Image


class TaggedRows(NamedTuple):
    """Embeddings of images ``(N, D)``, and the tags of each: None where there are none to be had."""

    rows: Matrix
    tags: Sequence[tuple[Tag, ...] | None]


EmbedImages = Callable[["Sequence[Image.Image]"], "Matrix | TaggedRows"]

GROUP_IMAGES = 16  # embedded at a time,
GROUP_PIXELS = 8_000_000  # or fewer, if they are large
BATCH_IMAGES = 64  # recorded at a time; a kill loses at most these
BATCH_FILES = 512  # recorded at a time where nothing needs to be embedded
BATCH_SECONDS = 5.0
MAX_THREADS = 4
MAX_AHEAD_BYTES = 64 * 2**20  # of files that are read ahead


@dataclass(slots=True)
class Changes:
    """The difference between a folder and its catalog.

    Attributes:
        unchanged: the number of images whose stamp is the same.
        moved: records of files that were renamed or moved, known by their stamp, which did not change.
        pending: files to read, with their stamps.
        gone: paths that are no longer there, without those in folders that cannot be read now.
        others: records of files that are not images.
        known_paths: the number of pending files whose path is known: their content changed.
    """

    unchanged: int = 0
    moved: list[FileRecord] = field(default_factory=list)
    pending: list[tuple[str, Stamp]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    others: list[FileRecord] = field(default_factory=list)


def find_changes(listing: Listing, records: dict[str, FileRecord], rescan_all: bool, retry_damaged: bool) -> Changes:
    """Compare a listing with the catalog; no file is opened.

    Args:
        listing: the files that are there.
        records: the files of the catalog.
        rescan_all: read every file, also those whose stamp is the same.
        retry_damaged: read the unreadable ones, because another version of the decoder is installed.
    """
    changes = Changes()
    missing = (path for path in records if path not in listing.images and path not in listing.others)
    changes.gone = [path for path in missing if not listing.is_unread(path)]
    # A file keeps its size, time and inode when it is renamed; one that has those of a vanished file is that file.
    vanished = {r.stamp: r for path in changes.gone if (r := records[path]).kind == IMAGE and r.stamp[2]}
    for path, stamp in sorted(listing.images.items()):
        record = records.get(path)
        if rescan_all:
            changes.pending.append((path, stamp))
        elif record is not None and record.stamp == stamp and record.kind == IMAGE:
            changes.unchanged += 1
        elif record is not None and record.stamp == stamp and record.kind == UNREADABLE:
            # Without a digest the bytes could not be read or decoded then, which may be possible now.
            if retry_damaged or not record.sha256:
                changes.pending.append((path, stamp))
        elif record is None and stamp in vanished:
            changes.moved.append(FileRecord(path, stamp, IMAGE, vanished[stamp].sha256, ""))
        else:
            changes.pending.append((path, stamp))
    for path, stamp in listing.others.items():
        if (record := records.get(path)) is None or record.stamp != stamp or record.kind != OTHER:
            changes.others.append(FileRecord(path, stamp, OTHER, "", ""))
    return changes


class Storage(Protocol):
    """Where the results of an update are recorded."""

    def record(self, files: Sequence[FileRecord], images: Sequence[tuple[str, ImageFacts]], rows: Matrix) -> None:
        """Record files, and new contents with their embeddings, all or nothing."""


class ContentReader:
    """Reads pending files, embeds new contents and records both in batches.

    Args:
        root: the folder.
        storage: where they are recorded.
        known: the digests of contents that have an embedding.
        problems: the problem of each content that is known to be unreadable, by digest.
        embed_images: images to unit rows; called only for new contents.

    Attributes:
        embedded: the number of images that were embedded.
        read: the records of the files that were read, by path.
    """

    def __init__(
        self, root: Path, storage: Storage, known: set[str], problems: dict[str, str], embed_images: EmbedImages
    ) -> None:
        self._root, self._storage, self._embed = root, storage, embed_images
        self._known, self._problems = known, problems
        self._group: list[ReadFile] = []
        self._images: list[tuple[str, ImageFacts]] = []
        self._rows: list[Matrix] = []
        self._files: list[FileRecord] = []
        self._in_group: set[str] = set()
        self._last = time.monotonic()
        self.embedded = 0
        self.read: dict[str, FileRecord] = {}

    def run(self, pending: Sequence[tuple[str, Stamp]], progress: Progress) -> None:
        """Read all pending files.

        Raises:
            CapabilityError: an embedding is not a finite unit vector; names the file.
        """
        start, num_threads = time.monotonic(), max(1, min(MAX_THREADS, os.cpu_count() or 1))
        done = 0
        with (
            progress.task("Indexing images", len(pending)) as bar,
            ThreadPoolExecutor(num_threads, "read-image") as threads,
        ):
            try:
                for file in self._read_ahead(pending, threads, 2 * num_threads):
                    self._add(file)
                    del file  # nothing large is held while the next one is awaited
                    done += 1
                    bar.advance(note=f"{done / max(time.monotonic() - start, 1e-3):,.0f} images/s")
                self._embed_group()
            finally:  # also after Ctrl-C, which keeps what is embedded
                threads.shutdown(wait=False, cancel_futures=True)
                self._record()

    def _read_ahead(
        self, pending: Sequence[tuple[str, Stamp]], threads: ThreadPoolExecutor, max_ahead: int
    ) -> Iterator[ReadFile]:
        """The files in their order; a few are read and decoded ahead, so that memory is limited."""
        ahead: deque[tuple[Future[ReadFile], int]] = deque()
        num_bytes = 0
        for path, stamp in pending:
            while ahead and (len(ahead) >= max_ahead or num_bytes + stamp[0] > MAX_AHEAD_BYTES):
                future, size = ahead.popleft()
                num_bytes -= size
                yield future.result()
                del future
            ahead.append((threads.submit(read_file, self._root, path, stamp, self._is_known), stamp[0]))
            num_bytes += stamp[0]
        while ahead:
            yield ahead.popleft()[0].result()

    def _is_known(self, sha256: str) -> bool:
        return sha256 in self._known or sha256 in self._problems

    def _add(self, file: ReadFile) -> None:
        problem = file.problem or self._problems.get(file.sha256, "")
        if problem:
            if file.sha256:
                self._problems[file.sha256] = problem
            self._files.append(FileRecord(file.path, file.stamp, UNREADABLE, file.sha256, problem))
        elif file.sha256 in self._known or file.sha256 in self._in_group or file.image is None:
            file.image = None
            if file.sha256 in self._in_group:
                self._group.append(file)  # a copy of one that waits: recorded together with it
            else:
                self._files.append(FileRecord(file.path, file.stamp, IMAGE, file.sha256, ""))
        else:
            self._in_group.add(file.sha256)
            self._group.append(file)
        waiting = [each.image for each in self._group if each.image is not None]
        if len(waiting) >= GROUP_IMAGES or sum(image.width * image.height for image in waiting) >= GROUP_PIXELS:
            del waiting
            self._embed_group()
        late = time.monotonic() - self._last > BATCH_SECONDS
        if len(self._images) >= BATCH_IMAGES or len(self._files) >= BATCH_FILES or (late and self._files):
            self._record()

    def _embed_group(self) -> None:
        new = [file for file in self._group if file.image is not None]
        if new:
            found = self._embed([file.image for file in new if file.image is not None])
            rows, tags = found if isinstance(found, TaggedRows) else (found, [None] * len(new))
            check_unit_rows(rows, (f"the image {file.path}" for file in new))
            self._rows.append(np.asarray(rows, dtype=np.float32))
            self._images += [
                (file.sha256, replace(file.facts, tags=some))
                for file, some in zip(new, tags, strict=True)
                if file.facts is not None
            ]
            self.embedded += len(new)
        self._files += [FileRecord(file.path, file.stamp, IMAGE, file.sha256, "") for file in self._group]
        self._known |= self._in_group
        self._group, self._in_group = [], set()

    def _record(self) -> None:
        if not self._files:
            return
        files, images, rows = self._files, self._images, self._rows
        self._files, self._images, self._rows = [], [], []
        self._storage.record(files, images, np.concatenate(rows) if rows else np.empty((0, 0), np.float32))
        self.read |= {file.path: file for file in files}
        self._last = time.monotonic()
