"""Reviews of suggested captions: in memory, bounded, each under an unguessable id; every step can be undone."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from clerestory.core.errors import NotFound
from clerestory.web.confidence import Confidence

MAX_REVIEWS = 40
MAX_IMAGES_PER_REVIEW = 96
MAX_UNDO_STEPS = 200
MAX_CAPTION_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Proposal:
    """One suggested caption; its confidence is None where no calibrator was fitted."""

    text: str
    confidence: Confidence | None


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One image under review.

    Attributes:
        number: 1, 2, … within the review; never reused.
        file: the file name.
        preview: a small WEBP image.
        proposals: suggested captions, best first.
        caption: the current caption.
        accepted: whether a person has accepted the caption.
    """

    number: int
    file: str
    preview: bytes
    proposals: tuple[Proposal, ...]
    caption: str
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """A file that was not accepted, with the problem and the remedy."""

    file: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """One state of a review; a step replaces it by another.

    Attributes:
        items: the images.
        rejected: the files of the last upload that were not accepted.
        last_number: the highest item number used so far.
    """

    items: tuple[ReviewItem, ...] = ()
    rejected: tuple[RejectedFile, ...] = ()
    last_number: int = 0

    def item(self, number: int) -> ReviewItem:
        """The image with this number.

        Raises:
            NotFound: it is not, or no longer, in the review.
        """
        for item in self.items:
            if item.number == number:
                return item
        raise NotFound(f"picture {number} is not in this review", "if it was removed, undo brings it back")

    def with_item(self, changed: ReviewItem) -> ReviewPage:
        """The page with one image replaced."""
        return replace(self, items=tuple(changed if i.number == changed.number else i for i in self.items))

    def with_captions(self, captions: Mapping[int, str]) -> ReviewPage:
        """The page with edited captions, by item number; an empty caption is no longer accepted."""
        items = []
        for item in self.items:
            caption = " ".join(captions.get(item.number, item.caption).split())[:MAX_CAPTION_LENGTH]
            items.append(replace(item, caption=caption, accepted=item.accepted and bool(caption)))
        return replace(self, items=tuple(items))

    @property
    def accepted(self) -> tuple[ReviewItem, ...]:
        """The accepted images."""
        return tuple(item for item in self.items if item.accepted)


@dataclass(slots=True)
class Review:
    """One person's review: the current page, and the earlier ones with the label of the step that followed each."""

    id: str
    release: str
    page: ReviewPage = field(default_factory=ReviewPage)
    history: list[tuple[str, ReviewPage]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def next_undo(self) -> str:
        """The label of the step that the next undo reverts; empty if there is none."""
        return self.history[-1][0] if self.history else ""

    def step(self, label: str, change: Callable[[ReviewPage], ReviewPage]) -> None:
        """Apply a change; one that changes nothing is not recorded."""
        with self.lock:
            page = change(self.page)
            if page != self.page:
                self.history = [*self.history[-MAX_UNDO_STEPS + 1 :], (label, self.page)]
                self.page = page

    def undo(self, captions: Mapping[int, str]) -> str:
        """Revert the last step and return its label; empty if there was none.

        Args:
            captions: the captions in the person's window; edits that are not saved yet are preserved.
        """
        with self.lock:
            if not self.history:
                return ""
            edited = {
                i.number: captions[i.number] for i in self.page.items if captions.get(i.number, i.caption) != i.caption
            }
            label, page = self.history.pop()
            self.page = page.with_captions(edited)
            return label


class Reviews:
    """All open reviews; beyond ``max_open``, the least recently used is dropped."""

    def __init__(self, max_open: int = MAX_REVIEWS) -> None:
        self.max_open = max_open
        self._open: OrderedDict[str, Review] = OrderedDict()
        self._lock = threading.Lock()

    def new(self, release: str) -> Review:
        """Open an empty review."""
        review = Review(secrets.token_urlsafe(16), release)
        with self._lock:
            self._open[review.id] = review
            while len(self._open) > self.max_open:
                self._open.popitem(last=False)
        return review

    def get(self, review_id: str) -> Review:
        """The open review with this id.

        Raises:
            NotFound: no open review has this id.
        """
        with self._lock:
            if review_id not in self._open:
                raise NotFound(
                    "this review is no longer open",
                    "reviews last only while the server runs; choose the pictures again",
                )
            self._open.move_to_end(review_id)
            return self._open[review_id]
