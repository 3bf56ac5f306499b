"""The steps of a person in a review: accept, choose, edit, remove, undo, turn the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from clerestory.store.operations.feedback import Feedback, FeedbackKind
from clerestory.web.review_values import ReviewItem, ReviewPage
from clerestory.web.reviews import Review
from clerestory.web.security import RequestRejected

ITEM_STEP = re.compile(r"(accept|remove)-(\d{1,6})", re.ASCII)
WRONG_STEP = re.compile(r"wrong-(\d{1,6})", re.ASCII)
USE_STEP = re.compile(r"use-(\d{1,6})-(\d{1,6})", re.ASCII)
FIELD = re.compile(r"(caption|tags)-\d{1,6}", re.ASCII)
TURN_STEP = re.compile(r"page-(\d{1,6})", re.ASCII)


class StepResult(NamedTuple):
    """The outcome of one step.

    Attributes:
        announcement: read out by screen readers.
        focus: id of the element that gets the keyboard focus; empty for no change.
        notice: shown on the page; empty for none.
        item: the number of the image with which the person goes on; 0 if the step does not lead to one.
        turn_to: the page of the review to show; 0 for that of ``item``, or the same as before.
    """

    announcement: str
    focus: str = ""
    notice: str = ""
    item: int = 0
    turn_to: int = 0


def edits_of(form: Mapping[str, str]) -> dict[str, str]:
    """The captions and tags of the submitted form, by the names of their fields."""
    return {name: value for name, value in form.items() if FIELD.fullmatch(name)}


def take_step(review: Review, step: str, edits: dict[str, str]) -> StepResult:
    """Apply one step, such as ``accept-3``, together with the texts of the form.

    Raises:
        RequestRejected: there is no such step.
        NotFound: the image is not in the review.
        NotWritable: the disk is full or read-only; nothing has changed.
    """
    if step == "undo":
        undone = review.undo(edits)
        announcement = f"Undone: {undone}" if undone else "There is nothing to undo"
        return StepResult(announcement, "undo" if review.next_undo else "accept-all")
    if step == "accept-all":
        review.step("accepting all", lambda page: _accept_all(page.with_edits(edits)))
        return StepResult(f"{_progress(review.page)}.", "download")
    if step == "save":
        review.step("editing", lambda page: page.with_edits(edits))
        return StepResult("Saved.")
    if turn := TURN_STEP.fullmatch(step):
        review.step("editing", lambda page: page.with_edits(edits))
        return StepResult("", "count", turn_to=int(turn[1]))
    page = review.page.with_edits(edits)
    if use := USE_STEP.fullmatch(step):
        return _use(review, page.item(int(use[1])), int(use[2]), edits)
    match = ITEM_STEP.fullmatch(step)
    if match is None:
        raise RequestRejected(f"there is no step {step[:40]!r}", "use the buttons of the page")
    item = page.item(int(match[2]))
    if match[1] == "accept":
        return _accept(review, item, edits)
    review.step(f"removing {item.file}", lambda page: _without(page.with_edits(edits), item))
    return StepResult(f"Removed {item.file}. Undo brings it back.", "undo")


def _use(review: Review, item: ReviewItem, choice: int, edits: Mapping[str, str]) -> StepResult:
    if not 1 <= choice <= len(item.proposals):
        raise RequestRejected("there is no such suggestion", "use the buttons of the page")
    text = item.proposals[choice - 1].text
    return _accept(review, replace(item, caption=text), edits, f"choosing “{text}”")


def _accept(review: Review, item: ReviewItem, edits: Mapping[str, str], step: str = "") -> StepResult:
    if not item.text:
        review.step("editing", lambda page: page.with_edits(edits))
        what = "a caption" if item.tags is None else "a caption or tags"
        sentence = f"Write {what} for {item.file} first, or remove it."
        return StepResult(sentence, _field(item), sentence, item.number)
    accepted = replace(item, accepted=True)
    review.step(step or f"accepting {item.file}", lambda page: page.with_edits(edits).with_item(accepted))
    remaining = [i.number for i in review.page.items if not i.accepted]
    later = [number for number in remaining if number > item.number] or remaining
    focus = _field(review.page.item(later[0])) if later else "download"
    goes_on = later[0] if later else item.number
    return StepResult(f"Accepted “{item.text}”. {_progress(review.page)}.", focus, item=goes_on)


def _accept_all(page: ReviewPage) -> ReviewPage:
    return replace(page, items=tuple(replace(item, accepted=bool(item.text)) for item in page.items))


def _without(page: ReviewPage, removed: ReviewItem) -> ReviewPage:
    return replace(page, items=tuple(item for item in page.items if item.number != removed.number))


def _field(item: ReviewItem) -> str:
    """The field that a person goes on with."""
    return f"tags-{item.number}" if item.tags is not None else f"caption-{item.number}"


def _progress(page: ReviewPage) -> str:
    return f"{len(page.accepted)} of {len(page.items)} accepted"


def caption_feedback(before: ReviewPage, after: ReviewPage) -> list[Feedback]:
    """What the captions that a step accepted say of the suggestions; an empty one takes back an earlier one."""
    earlier = {item.number: item.caption for item in before.accepted}
    now = {item.number: item for item in after.accepted}
    known = {item.number: item for item in (*before.items, *after.items) if item.response}
    said = []
    for number, item in known.items():
        caption = now[number].caption if number in now else ""
        if caption != earlier.get(number, ""):
            suggested = item.proposals[0].text if item.proposals else ""
            said.append(Feedback(item.response, FeedbackKind.CAPTION, caption, "page", suggested=suggested))
    return said
