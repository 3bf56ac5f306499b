"""Reviews of suggested captions: in memory, bounded, each under an id nobody can guess; every step can be undone."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from clerestory.core.errors import NotFound
from clerestory.web.confidence import Sure

REVIEWS = 40
PICTURES_PER_REVIEW = 96
STEPS = 200
CAPTION_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Proposal:
    """One suggested caption, and how sure the model is of it where that was measured."""

    text: str
    sure: Sure | None


@dataclass(frozen=True, slots=True)
class Item:
    """One picture under review.

    Attributes:
        number: 1, 2, … within the review; never given twice.
        file: the file's name.
        preview: a small WEBP picture to show.
        proposals: suggested captions, best first.
        caption: the words as they stand now.
        accepted: whether a person has accepted them.
    """

    number: int
    file: str
    preview: bytes
    proposals: tuple[Proposal, ...]
    caption: str
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was not taken, and why."""

    file: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Page:
    """What a review holds at one moment; a step replaces it by another."""

    items: tuple[Item, ...] = ()
    problems: tuple[Problem, ...] = ()
    given: int = 0

    def item(self, number: int) -> Item:
        """The picture of this number.

        Raises:
            NotFound: it is not (or no longer) in the review.
        """
        for item in self.items:
            if item.number == number:
                return item
        raise NotFound(f"picture {number} is not in this review", "it may have been taken out; undo brings it back")

    def with_item(self, changed: Item) -> Page:
        """The page with one picture replaced."""
        return replace(self, items=tuple(changed if i.number == changed.number else i for i in self.items))

    def with_captions(self, captions: Mapping[int, str]) -> Page:
        """The page with the words as the person has them; a caption without words cannot stay accepted."""
        items = []
        for item in self.items:
            words = " ".join(captions.get(item.number, item.caption).split())[:CAPTION_LENGTH]
            items.append(replace(item, caption=words, accepted=item.accepted and bool(words)))
        return replace(self, items=tuple(items))

    @property
    def accepted(self) -> tuple[Item, ...]:
        """The accepted ones."""
        return tuple(item for item in self.items if item.accepted)


@dataclass(slots=True)
class Review:
    """One person's review: the page, and the pages before it with what was done then."""

    id: str
    release: str
    page: Page = field(default_factory=Page)
    before: list[tuple[str, Page]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def undoes(self) -> str:
        """What the next undo takes back, empty when there is nothing to undo."""
        return self.before[-1][0] if self.before else ""

    def step(self, label: str, change: Callable[[Page], Page]) -> None:
        """Change the page; an unchanged page is no step."""
        with self.lock:
            page = change(self.page)
            if page != self.page:
                self.before = [*self.before[-STEPS + 1 :], (label, self.page)]
                self.page = page

    def undo(self, captions: Mapping[int, str]) -> str:
        """Take the last step back and say what it was, empty when there was none.

        Args:
            captions: the words as they stand in the person's window; what is edited there and not yet kept stays.
        """
        with self.lock:
            if not self.before:
                return ""
            edited = {
                i.number: captions[i.number] for i in self.page.items if captions.get(i.number, i.caption) != i.caption
            }
            label, page = self.before.pop()
            self.page = page.with_captions(edited)
            return label


class Reviews:
    """All open reviews; the one untouched for longest goes when there are too many."""

    def __init__(self, most: int = REVIEWS) -> None:
        self.most = most
        self._open: OrderedDict[str, Review] = OrderedDict()
        self._lock = threading.Lock()

    def new(self, release: str) -> Review:
        """An empty review."""
        review = Review(secrets.token_urlsafe(16), release)
        with self._lock:
            self._open[review.id] = review
            while len(self._open) > self.most:
                self._open.popitem(last=False)
        return review

    def get(self, review_id: str) -> Review:
        """The review of this id.

        Raises:
            NotFound: there is none, or not any more.
        """
        with self._lock:
            if review_id not in self._open:
                raise NotFound(
                    "this review is no longer here",
                    "reviews are kept only while the server runs; choose the pictures again",
                )
            self._open.move_to_end(review_id)
            return self._open[review_id]
