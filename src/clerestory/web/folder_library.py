"""The folder of images that a server searches: indexed and rescanned in the background, searchable meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clerestory.apps.confidence import SearchCalibrators, fit_search
from clerestory.apps.folder_index import FolderIndex, TaggedRows, Unreadable
from clerestory.apps.folder_index.captions import FolderCaptions, FolderSamples, read_captions, samples_digest
from clerestory.apps.folder_index.duplicates import DuplicateLists, find_duplicates
from clerestory.apps.folder_index.snapshot import Snapshot
from clerestory.apps.folder_index.source import count_unlike_files
from clerestory.apps.search import SearchIndex
from clerestory.apps.tagging import embed_and_tag, open_index
from clerestory.core.errors import ClerestoryError, Conflict, DataError
from clerestory.core.progress import QUIET, Progress, ProgressTask
from clerestory.core.units import plural
from clerestory.models.protocols import Embedder, Matrix
from clerestory.stages.serve.inference_queue import InferenceQueue
from clerestory.store import Store
from clerestory.web.folder_view import FolderView
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.model_follower import ModelFollower

LOG = logging.getLogger("clerestory.web")
POLL_SECONDS = 0.2
RESCAN_SECONDS = 10.0  # between two scans at least,
RESCAN_FACTOR = 20  # and this many times as long as a scan takes
RETRY_SECONDS = 2.0
IMAGES_AT_ONCE, TEXTS_AT_ONCE = 4, 32  # embedded before a visitor gets a turn
MAX_MODELS = 2  # whose indexes are open: the served one, and the one before it
EXAMPLES = (
    "a sunset over the sea", "people sitting at a table", "a dog", "a cat", "snow on mountains", "a street in a city",
    "flowers", "food on a plate", "a child playing", "a boat on the water", "a bicycle", "an old building",
    "a person riding a horse", "trees in a forest", "a car", "a bird", "an aeroplane", "a football match",
)  # fmt: skip
NUM_EXAMPLES = 5


class _Stopped(Exception):
    """The result is no longer needed, such as when the server shuts down."""


@dataclass(frozen=True, slots=True)
class IndexingStatus:
    """How far the indexing is.

    Attributes:
        running: whether images are being read.
        done: how many of ``total`` are known, whether or not a search can find them already.
        total: all images of the folder, as far as it was scanned; 0 before the first scan.
        problem: why the folder cannot be scanned; empty if nothing is wrong.
    """

    running: bool = False
    done: int = 0
    total: int = 0
    problem: str = ""


class IndexedFolder:
    """The index of the folder for one model, with what its pages need.

    Attributes:
        index: the embeddings.
        status: of the indexing.
        scanned: whether one scan is complete.
        search: from scores to confidence; without calibrators until a scan is complete.
        captions: of the images, from tables and texts in the folder.
        examples: queries that the folder can answer.
        unreadable: files that cannot be shown, and why.
        unlike: how many images are unlike those the model was trained on, and how many were checked.
    """

    def __init__(self, index: FolderIndex) -> None:
        self.index = index
        self.status = IndexingStatus()
        self.scanned = False
        self.search = SearchCalibrators()
        self.captions = FolderCaptions()
        self.examples: tuple[str, ...] = ()
        self.unreadable: tuple[Unreadable, ...] = index.unreadable
        self.unlike = (0, 0)
        self._view: FolderView | None = None
        self._measured = ""

    @property
    def view(self) -> FolderView:
        """The present images; the same object until the index changes."""
        snapshot, view = self.index.snapshot, self._view
        if view is None or view.snapshot is not snapshot:
            view = self._view = FolderView(snapshot)
        return view

    def measure(self, model: Embedder, loaded: LoadedModel, store: Store) -> None:
        """Read captions and fit calibrators for the present images, unless that was done before."""
        view = self.view
        view.prepare()
        try:
            captions = read_captions(self.index)
        except DataError:  # its tables contradict one another: the search goes on without captions
            captions = FolderCaptions()
        data = samples_digest(view.snapshot, captions)
        if data == self._measured:
            return
        self.captions = captions
        if len(view):
            samples = FolderSamples(view.snapshot, captions)
            searchable = SearchIndex(model.digest, data, samples, view.snapshot.embeddings, model.dims)
            self.search = fit_search(model, searchable, store)
            self.unlike = count_unlike_files(loaded.reference, self.index, store)
            self.examples = self._answerable_examples(model)
        self._measured = data

    def _answerable_examples(self, model: Embedder) -> tuple[str, ...]:
        """The examples that match the images best, in their own order."""
        match = self.search.query
        rank, minimum = (match.rank, match.minimum) if match else (1, -1.0)
        scores = np.asarray(self.index.snapshot.matrix) @ model.embed_texts(EXAMPLES).T
        scores = scores[np.unique(self.index.snapshot.state.rows)]
        best = np.sort(scores, axis=0)[-min(rank, len(scores))]
        chosen = [i for i in np.argsort(-best, kind="stable").tolist() if best[i] > minimum][:NUM_EXAMPLES]
        return tuple(EXAMPLES[i] for i in sorted(chosen))


class DuplicateSearch:
    """Finds the duplicates of one state of a folder, in a thread of its own.

    Args:
        folder: of the images.
        snapshot: the state.

    Attributes:
        done: how many of ``total`` images are compared.
        lists: the duplicates, once they are found.
        finished: set at the end, also if it failed.
    """

    def __init__(self, folder: Path, snapshot: Snapshot) -> None:
        self.folder, self.snapshot = folder, snapshot
        self._stop = threading.Event()
        self.done, self.total = 0, len(snapshot)
        self.lists: DuplicateLists | None = None
        self.finished = threading.Event()
        threading.Thread(target=self._run, name="duplicates", daemon=True).start()

    @property
    def is_stopped(self) -> bool:
        """Whether the result is no longer needed."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the search, because the server shuts down or the folder has changed."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self.lists = find_duplicates(self.folder, self.snapshot, self)
        except _Stopped:
            pass
        except Exception:  # the page says that there is no result
            LOG.exception("the images could not be compared")
        finally:
            self.finished.set()

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[ProgressTask]:
        """The images that are compared."""
        self.done, self.total = 0, total
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """A few more."""
        if self._stop.is_set():
            raise _Stopped
        self.done += steps

    def write_line(self, line: str) -> None:
        """Nothing is reported."""


class FolderLibrary:
    """Keeps the index of one folder up to date for the served model, in a thread of its own.

    Args:
        folder: of images.
        store: its home keeps the index.
        progress: shows how far the indexing is, besides the pages.
    """

    def __init__(self, folder: Path, store: Store, progress: Progress = QUIET) -> None:
        self.progress = progress
        self.folder = folder.expanduser().resolve()
        self.name = self.folder.name or str(self.folder)
        self.store = store
        self._open: dict[str, IndexedFolder] = {}  # by model digest, the latest last
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._comparison: DuplicateSearch | None = None

    def compare(self, indexed: IndexedFolder) -> DuplicateSearch:
        """The comparison of the present images of the folder, begun now if there is none."""
        with self._lock:
            if self._comparison is None or self._comparison.snapshot is not indexed.index.snapshot:
                if self._comparison is not None:
                    self._comparison.stop()
                self._comparison = DuplicateSearch(self.folder, indexed.index.snapshot)
            return self._comparison

    def of(self, loaded: LoadedModel) -> IndexedFolder:
        """The index for a model, as it is on the disk or in memory.

        Raises:
            DataError: the folder is gone.
        """
        digest = loaded.model.digest
        with self._lock:
            indexed = self._open.pop(digest, None)
            if indexed is None:
                assert loaded.embedder is not None
                indexed = IndexedFolder(open_index(self.folder, self.store, loaded.embedder))
            self._open[digest] = indexed
            while len(self._open) > MAX_MODELS:
                del self._open[next(iter(self._open))]
            return indexed

    def start(self, follower: ModelFollower, queue: InferenceQueue) -> None:
        """Begin to index."""
        self._thread = threading.Thread(target=self._run, args=(follower, queue), name="folder-index", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop indexing; what is embedded is on the disk."""
        self._stop.set()
        with self._lock:
            if self._comparison is not None:
                self._comparison.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self, follower: ModelFollower, queue: InferenceQueue) -> None:
        scanned, due = None, 0.0
        while not self._stop.wait(POLL_SECONDS):
            loaded = follower.current
            if loaded is None or loaded.embedder is None or (loaded is scanned and time.monotonic() < due):
                continue
            start = time.monotonic()
            try:
                self._refresh(loaded, queue)
            except (_Stopped, CancelledError):
                return
            except Conflict:  # another process indexes the folder
                self._reopen(loaded)
                due = time.monotonic() + RETRY_SECONDS
            except Exception:  # the pages continue with what is indexed
                if self._stop.is_set():
                    return  # the queue is closed
                LOG.exception("the folder %s could not be indexed", self.folder)
                due = time.monotonic() + RESCAN_SECONDS
            else:
                end = time.monotonic()
                due = end + max(RESCAN_SECONDS, RESCAN_FACTOR * (end - start))
            scanned = loaded

    def _refresh(self, loaded: LoadedModel, queue: InferenceQueue) -> None:
        """Scan the folder once, embed what is new, and measure."""
        assert loaded.embedder is not None
        indexed, model = self.of(loaded), _QueuedEmbedder(loaded.embedder, queue)
        progress = _StatusProgress(indexed, self._stop, self.progress)
        try:
            update = indexed.index.update(model.embed_and_tag, progress, wait=False)
            indexed.unreadable = update.unreadable
            problem = ""
        except Conflict:
            raise
        except ClerestoryError as error:  # there is no image, or the folder is gone
            problem = str(error)
        total = len(indexed.index)
        indexed.status = IndexingStatus(False, total, total, problem)
        if not problem:
            indexed.measure(model, loaded, self.store)
        indexed.scanned = True

    def _reopen(self, loaded: LoadedModel) -> None:
        """Show what another process has indexed meanwhile."""
        with self._lock:
            self._open.pop(loaded.model.digest, None)
        indexed = self.of(loaded)
        indexed.status = IndexingStatus(True, len(indexed.index), len(indexed.index))


class _QueuedEmbedder:
    """A model that embeds a few inputs at a time in the thread of the model, so that visitors wait for a few only."""

    def __init__(self, model: Embedder, queue: InferenceQueue) -> None:
        self._model, self._queue = model, queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def embed_and_tag(self, images: Sequence[Image.Image]) -> TaggedRows:
        """Unit rows (N, D), with the tags of each image."""
        embed = embed_and_tag(self._model)
        parts = [self._queue.call(embed, images[i : i + IMAGES_AT_ONCE]) for i in range(0, len(images), IMAGES_AT_ONCE)]
        return TaggedRows(np.concatenate([part.rows for part in parts]), [tags for part in parts for tags in part.tags])

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows (N, D)."""
        parts = [texts[i : i + TEXTS_AT_ONCE] for i in range(0, max(1, len(texts)), TEXTS_AT_ONCE)]
        return np.concatenate([self._queue.call(self._model.embed_texts, part, dim) for part in parts])


class _StatusProgress:
    """Shows the progress of an update as the status of the index, and ends it when the server shuts down."""

    def __init__(self, indexed: IndexedFolder, stop: threading.Event, shown: Progress) -> None:
        self._indexed, self._stop, self._shown = indexed, stop, shown
        self._task: ProgressTask | None = None
        self._before = len(indexed.index)

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[ProgressTask]:
        """The images that are read."""
        self._indexed.status = IndexingStatus(True, self._before, self._before + total)
        if not self._indexed.scanned:
            self._shown.write_line(f"notice: indexing {plural(total, 'image')}; the pages show those that are ready")
        with self._shown.task(label, total) as self._task:
            yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """One more image."""
        if self._stop.is_set():
            raise _Stopped
        status = self._indexed.status
        self._indexed.status = IndexingStatus(True, status.done + steps, status.total)
        if self._task is not None:
            self._task.advance(steps, note)

    def write_line(self, line: str) -> None:
        """What the user should know."""
        self._shown.write_line(line)
