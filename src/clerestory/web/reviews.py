"""Reviews of suggested captions, each under an unguessable id; every step is on the disk before it is acknowledged."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakValueDictionary

from clerestory.core.errors import NotFound, NotWritable
from clerestory.web.labels import num_images
from clerestory.web.review_files import ReviewFiles
from clerestory.web.review_values import RejectedFile, ReviewItem, ReviewPage

MAX_REVIEWS = 10  # in memory, each with the previews of its images, about 15 kB each
MAX_IMAGES_PER_REVIEW = 1_000
MAX_UNDO_STEPS = 200


@dataclass(slots=True, weakref_slot=True)
class Review:
    """One person's review: the current page, and the earlier ones with the label of the step that followed each."""

    id: str
    release: str
    files: ReviewFiles
    page: ReviewPage = field(default_factory=ReviewPage)
    history: list[tuple[str, ReviewPage]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _upload: str = ""  # the upload that made the last step, if it may still go on

    @property
    def next_undo(self) -> str:
        """The label of the step that the next undo reverts; empty if there is none."""
        return self.history[-1][0] if self.history else ""

    def add(
        self, images: Sequence[tuple[ReviewItem, bytes]], rejected: Sequence[RejectedFile], upload: str = ""
    ) -> None:
        """Add the images of one request.

        An upload in several requests is one step. The first upload cannot be undone; it holds no work of a person yet,
        so where nothing can be written it is in memory only.

        Args:
            images: the images, whose numbers are assigned here, and their large copies.
            rejected: the files that were not accepted.
            upload: the id of the upload.

        Raises:
            NotWritable: the disk is full or read-only; nothing has changed.
        """
        with self.lock:
            before, continued = self.page, bool(upload) and upload == self._upload
            page = before.with_upload([item for item, _ in images], rejected, upload)
            first = before == ReviewPage() or (continued and not self.history)
            for item, (_, large) in zip(page.items[len(before.items) :], images, strict=True):
                with suppress(NotWritable):  # the preview is shown instead
                    self.files.write_large(self.id, item.number, large)
            with suppress(NotWritable) if first else nullcontext():
                self.files.write(self.id, self.release, page, touched=not first)
            if not first:
                undone = self.history.pop()[1] if continued else before
                self._record(f"adding {num_images(len(page.items) - len(undone.items))}", undone)
            self.page, self._upload = page, upload

    def begin(self, num_queued: int) -> None:
        """Write the first state of a review of a folder.

        Raises:
            NotWritable: the disk is full or read-only.
        """
        with self.lock:
            page = replace(self.page, num_queued=num_queued)
            self.files.write(self.id, self.release, page, touched=False)
            self.page = page

    def extend(self, images: Sequence[tuple[ReviewItem, bytes]], rejected: Sequence[RejectedFile]) -> None:
        """Add the next files of the folder, to every state that can be undone as well, so that no undo removes them.

        Raises:
            NotWritable: the disk is full or read-only; nothing has changed.
        """
        with self.lock:
            items = [replace(item, number=self.page.last_number + 1 + i) for i, (item, _) in enumerate(images)]
            last = self.page.last_number + len(items)
            for item, (_, large) in zip(items, images, strict=True):
                self.files.write_large(self.id, item.number, large)
            page = self.page.with_described(items, rejected, last)
            touched = bool(self.history) or self.files.is_touched(self.id)
            self.files.write(self.id, self.release, page, touched)
            self.page = page
            self.history = [(label, each.with_described(items, rejected, last)) for label, each in self.history]

    def _record(self, label: str, before: ReviewPage) -> None:
        self.history = [*self.history[-MAX_UNDO_STEPS + 1 :], (label, before)]

    def step(self, label: str, change: Callable[[ReviewPage], ReviewPage]) -> None:
        """Write a change to the disk and apply it; one that changes nothing is not recorded.

        Raises:
            NotWritable: the disk is full or read-only; nothing has changed.
        """
        with self.lock:
            page = change(self.page)
            if page != self.page:
                self.files.write(self.id, self.release, page, touched=True)
                self._record(label, self.page)
                self.page, self._upload = page, ""

    def undo(self, edits: Mapping[str, str]) -> str:
        """Revert the last step and return its label; empty if there was none.

        Args:
            edits: the texts in the person's window by their fields; those that are not saved yet are preserved.

        Raises:
            NotWritable: the disk is full or read-only; nothing has changed.
        """
        with self.lock:
            if not self.history:
                return ""
            saved = {f"caption-{i.number}": i.caption for i in self.page.items}
            saved |= {f"tags-{i.number}": i.tag_text for i in self.page.items}
            edited = {name: text for name, text in edits.items() if name in saved and text != saved[name]}
            label, page = self.history[-1]
            # The number of an image that this removes is not given to another one, whose preview would be its file.
            page = replace(page.with_edits(edited), last_number=self.page.last_number)
            self.files.write(self.id, self.release, page, touched=True)
            self.history.pop()
            self.page, self._upload = page, ""
            return label


class FolderQueue(Protocol):
    """Describes a folder of the server in the background; see ``folder_describe``."""

    def add(self, review_id: str) -> None:
        """Describe one more review."""

    def context(self) -> dict[str, object]:
        """What the page of a new review offers."""

    def progress_of(self, review: Review) -> dict[str, object]:
        """How far a review is: numbers, and a sentence for people."""

    def close(self) -> None:
        """Stop; the rest is described after the next start."""


class Reviews:
    """All reviews; beyond ``max_in_memory``, the least recently used are on the disk only, without their undo steps.

    Args:
        files: the reviews on the disk.
        max_in_memory: how many are in memory.
    """

    def __init__(self, files: ReviewFiles, max_in_memory: int = MAX_REVIEWS) -> None:
        self.files = files
        self.max_in_memory = max_in_memory
        self._open: OrderedDict[str, Review] = OrderedDict()
        self._in_use: WeakValueDictionary[str, Review] = WeakValueDictionary()  # also by a request that still runs
        self._lock = threading.Lock()

    def new(self, release: str) -> Review:
        """Open an empty review."""
        with self._lock:
            return self._keep(Review(secrets.token_urlsafe(16), release, self.files))

    def get(self, review_id: str) -> Review:
        """The review with this id, from memory or from the disk.

        Raises:
            NotFound: there is no such review.
        """
        with self._lock:
            review = self._in_use.get(review_id)
            if review is None:
                if (stored := self.files.read(review_id)) is None:
                    raise NotFound("this review is no longer open", "choose the pictures again")
                review = Review(review_id, stored[0], self.files, stored[1])
            return self._keep(review)

    def _keep(self, review: Review) -> Review:
        self._open[review.id] = self._in_use[review.id] = review
        self._open.move_to_end(review.id)
        while len(self._open) > self.max_in_memory:
            self._open.popitem(last=False)
        return review
