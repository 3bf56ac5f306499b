"""The state of a review of suggested captions, as a value: every step replaces it by another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from clerestory.apps.confidence import Confidence
from clerestory.apps.tags import NOT_SURE, Tag
from clerestory.core.errors import NotFound

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
        unlike: whether the image is unlike those that the model was trained on.
        tags: suggested tags of a photograph; empty means "not sure". None for an image that gets no tags.
        tag_text: the current tags, separated by commas.
        response: the id of the response that made the suggestions, for feedback; empty if it has none.
    """

    number: int
    file: str
    preview: bytes
    proposals: tuple[Proposal, ...]
    caption: str
    accepted: bool = False
    unlike: bool = False
    tags: tuple[Tag, ...] | None = None
    tag_text: str = ""
    response: str = ""

    @property
    def text(self) -> str:
        """What describes it: the caption, or else the tags; empty if there is neither."""
        return self.caption or self.tag_text

    @property
    def suggested_tags(self) -> str:
        """The suggested tags as a cell of a table."""
        return join_tags(self.tags) or NOT_SURE if self.tags is not None else ""


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
        upload: the id of the last upload; it may arrive in several requests. Empty for one without an id.
        num_uploaded: how many files of the last upload were accepted.
        num_queued: how many files of a folder this review is to have; 0 for uploads.
        num_described: how many of them were described, or found unreadable.
    """

    items: tuple[ReviewItem, ...] = ()
    rejected: tuple[RejectedFile, ...] = ()
    last_number: int = 0
    upload: str = ""
    num_uploaded: int = 0
    num_queued: int = 0
    num_described: int = 0

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

    def with_edits(self, edits: Mapping[str, str]) -> ReviewPage:
        """The page with edited texts, by the names of their fields; an image without any text is not accepted any more.

        Args:
            edits: such as ``{"caption-1": "a red square", "tags-2": "dog, snow"}``.
        """
        items = []
        for item in self.items:
            caption = " ".join(edits.get(f"caption-{item.number}", item.caption).split())[:MAX_CAPTION_LENGTH]
            tags = edits.get(f"tags-{item.number}", item.tag_text)[:MAX_CAPTION_LENGTH].split(",")
            tag_text = ", ".join(dict.fromkeys(filter(None, (" ".join(tag.split()) for tag in tags))))
            changed = replace(item, caption=caption, tag_text=tag_text)
            items.append(replace(changed, accepted=item.accepted and bool(changed.text)))
        return replace(self, items=tuple(items))

    def with_upload(self, items: Sequence[ReviewItem], rejected: Sequence[RejectedFile], upload: str) -> ReviewPage:
        """The page with more images, each with the next number and a name that no other image has.

        A request with the id of the last upload continues it.
        """
        continued = bool(upload) and upload == self.upload
        names = {item.file for item in self.items}
        added = []
        for number, item in enumerate(items, start=self.last_number + 1):
            added.append(replace(item, number=number, file=_distinct(item.file, names)))
            names.add(added[-1].file)
        return ReviewPage(
            items=(*self.items, *added),
            rejected=(*(self.rejected if continued else ()), *rejected),
            last_number=self.last_number + len(added),
            upload=upload,
            num_uploaded=len(added) + (self.num_uploaded if continued else 0),
            num_queued=self.num_queued,
            num_described=self.num_described,
        )

    def with_described(self, items: Sequence[ReviewItem], rejected: Sequence[RejectedFile], last: int) -> ReviewPage:
        """The page with the next files of the folder, whose numbers are assigned; ``last`` is the highest one."""
        return replace(
            self,
            items=(*self.items, *items),
            rejected=(*self.rejected, *rejected),
            last_number=last,
            num_uploaded=self.num_uploaded + len(items),
            num_described=self.num_described + len(items) + len(rejected),
        )

    @property
    def accepted(self) -> tuple[ReviewItem, ...]:
        """The accepted images."""
        return tuple(item for item in self.items if item.accepted)


@dataclass(frozen=True, slots=True)
class RejectionGroup:
    """The files that were rejected for the same reason."""

    message: str
    fix: str
    files: tuple[str, ...]


def rejection_groups(rejected: Iterable[RejectedFile]) -> list[RejectionGroup]:
    """The rejected files by reason, the most frequent reason first."""
    files: dict[tuple[str, str], list[str]] = {}
    for each in rejected:
        files.setdefault((each.message, each.fix), []).append(each.file)
    groups = [RejectionGroup(message, fix, tuple(names)) for (message, fix), names in files.items()]
    return sorted(groups, key=lambda group: -len(group.files))


def join_tags(tags: Iterable[Tag]) -> str:
    """Tags as a person edits them."""
    return ", ".join(tag.text for tag in tags)


def _distinct(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if another image has it already."""
    number, distinct = 1, name
    while distinct in taken:
        number += 1
        distinct = f"{name} ({number})"
    return distinct
