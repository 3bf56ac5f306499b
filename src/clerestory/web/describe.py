"""``/describe``: images are uploaded, captions suggested, reviewed by a person and downloaded as CSV."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import parse_qsl

from PIL import Image
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.apps.captioning import captions_csv, safe_path, suggest_captions
from clerestory.apps.confidence import explain
from clerestory.core.errors import CapabilityError, UploadError
from clerestory.core.sample import TEST, Dataset, Sample
from clerestory.core.units import duration
from clerestory.data.images import decode_beside_requests
from clerestory.web import labels
from clerestory.web.images import SHORT_LIVED, image_response, thumbnail
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.request_body import read_body
from clerestory.web.review_values import Proposal, RejectedFile, ReviewItem, ReviewPage
from clerestory.web.reviews import MAX_IMAGES_PER_REVIEW, Review
from clerestory.web.security import Busy, RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.uploads import MAX_IMAGE_BYTES, MAX_IMAGES, file_name, form_parts
from clerestory.web.views import page

MAX_PROPOSALS = 3
MAX_EXAMPLES = 3
MAX_FORM_BYTES = 500_000
ITEM_STEP = re.compile(r"(accept|remove)-(\d{1,6})", re.ASCII)
USE_STEP = re.compile(r"use-(\d{1,6})-(\d{1,6})", re.ASCII)


class StepResult(NamedTuple):
    """The outcome of one step.

    Attributes:
        announcement: read out by screen readers.
        focus: id of the element that gets the keyboard focus; empty for no change.
        notice: shown on the page; empty for none.
    """

    announcement: str
    focus: str = ""
    notice: str = ""


async def start_page(request: Request) -> Response:
    """``GET /describe``: choose images."""
    server = server_state(request)
    loaded = _require_captioner(server.follower.loaded)
    examples = min(MAX_EXAMPLES, len(server.data)) if server.data is not None else 0
    return page(request, "describe.html", {"model": loaded, "examples": examples} | _drop_context(server))


async def upload(request: Request) -> Response:
    """``POST /describe`` and ``POST /describe/{review}/more``: describe uploaded images, one after another."""
    server = server_state(request)
    loaded = _require_captioner(server.follower.loaded)
    review = await _review(request) if "review" in request.path_params else None
    items: list[ReviewItem] = []
    rejected: list[RejectedFile] = []
    num_before = len(review.page.items) if review else 0
    last_number = review.page.last_number if review else 0
    async for part in form_parts(request):
        if part.field != "images" or part.file is None or not (part.file or part.content or part.error):
            continue
        name = file_name(part.file)
        try:
            if part.error:
                raise part.error
            _check_limits(len(items), num_before)
            items.append(await _described(server, loaded, part.content, name, last_number + len(items) + 1))
        except Busy as error:
            if not items:
                raise
            rejected.append(RejectedFile(name, error.message, error.fix))
        except UploadError as error:
            rejected.append(RejectedFile(name, error.message, error.fix))
    if not items and not rejected:
        raise RequestRejected("no picture was chosen", "choose at least one picture", kind="invalid_request")
    review = review or server.reviews.new(loaded.ref)
    await asyncio.to_thread(_add, review, items, rejected)
    return RedirectResponse(f"/describe/{review.id}", status_code=303)


async def examples(request: Request) -> Response:
    """``POST /describe/examples``: a review of a few images of the dataset."""
    server = server_state(request)
    if server.data is None or not len(server.data):
        raise RequestRejected("this server has no example pictures", "choose some of your own")
    loaded = _require_captioner(server.follower.loaded)
    items = []
    for number, sample in enumerate(_example_samples(server.data), start=1):
        content = await asyncio.to_thread(server.data.read, sample)
        items.append(await _described(server, loaded, content, file_name(sample.id), number))
    review = server.reviews.new(loaded.ref)
    await asyncio.to_thread(_add, review, items, [])
    return RedirectResponse(f"/describe/{review.id}", status_code=303)


async def review_page(request: Request) -> Response:
    """``GET /describe/{review}``: the current state of a review."""
    return _render(request, await _review(request))


async def review_step(request: Request) -> Response:
    """``POST /describe/{review}``: one step, such as ``do=accept-3``, with all captions of the form."""
    review = await _review(request)
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    try:
        form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=2 * MAX_IMAGES_PER_REVIEW + 20))
    except ValueError as error:
        raise RequestRejected("the form has too many fields", "send it from the page") from error
    result = await asyncio.to_thread(_step, review, form.get("do", "save"), _captions(form))
    if request.headers.get("hx-request") == "true" or result.notice:
        return _render(request, review, result)
    anchor = f"#{result.focus}" if result.focus else "#captions"
    return RedirectResponse(f"/describe/{review.id}{anchor}", status_code=303)


async def preview(request: Request) -> Response:
    """``GET /describe/{review}/{number}.webp``: the thumbnail of one image."""
    review = await _review(request)
    item = review.page.item(request.path_params["number"])
    return image_response(item.preview, {"cache-control": SHORT_LIVED})


async def download(request: Request) -> Response:
    """``GET /describe/{review}/captions.csv``: the accepted captions."""
    review = await _review(request)
    rows = [_csv_row(item, review.release) for item in review.page.accepted]
    if not rows:
        raise RequestRejected("no caption is accepted yet", "accept at least one first", status=409, kind="conflict")
    headers = {"content-disposition": 'attachment; filename="captions.csv"'}
    return Response(captions_csv(rows).encode("utf-8"), media_type="text/csv; charset=utf-8", headers=headers)


async def _review(request: Request) -> Review:
    """The review of the address; in a thread, since it may have to be read from the disk."""
    return await asyncio.to_thread(server_state(request).reviews.get, request.path_params["review"])


def _csv_row(item: ReviewItem, release: str) -> dict[str, object]:
    best = item.proposals[0] if item.proposals else None
    return {
        "file": safe_path(item.file),
        "caption": item.caption,
        "suggested": best.text if best else "",
        "confidence": best.confidence.label if best and best.confidence else "",
        "suggested by": release,
    }


def _drop_context(server: ServerState) -> dict[str, object]:
    pace = duration(max(0.1, server.caption_seconds.value)) if server.caption_seconds.count else ""
    return {
        "max_images": MAX_IMAGES,
        "megabytes": MAX_IMAGE_BYTES // 1_000_000,
        "pace": pace,
        "action": "/describe",
        "label": "Choose pictures",
    }


def _render(request: Request, review: Review, result: StepResult | None = None) -> Response:
    server = server_state(request)
    result = result or StepResult("")
    loaded = server.follower.current
    calibrator = loaded.reference.captions if loaded else None
    correct_when = "a suggestion is right when it is one of the picture's own names."
    context = _drop_context(server) | {
        "review": review,
        "announcement": result.announcement,
        "focus": f"#{result.focus}" if result.focus else "",
        "notice": result.notice,
        "explanation": explain(calibrator, "pictures of things", correct_when),
        "action": f"/describe/{review.id}/more",
        "label": "Choose more pictures",
    }
    return page(request, "review.html", context)


def _check_limits(num_uploaded: int, num_before: int) -> None:
    if num_uploaded >= MAX_IMAGES:
        raise UploadError(
            f"one upload has at most {MAX_IMAGES} pictures", "add it with “Choose more pictures” below", status=413
        )
    if num_before + num_uploaded >= MAX_IMAGES_PER_REVIEW:
        fix = "download this review and begin another"
        raise UploadError(f"a review has at most {MAX_IMAGES_PER_REVIEW} pictures", fix, status=413)


async def _described(server: ServerState, loaded: LoadedModel, content: bytes, name: str, number: int) -> ReviewItem:
    """One image with its suggestions; the place in the queue is taken now that the image has arrived.

    Raises:
        Busy: the queue is full.
        UploadError: the image cannot be used.
    """

    def timed() -> ReviewItem:
        start = time.perf_counter()
        item = _review_item(loaded, content, name, number)
        server.caption_seconds.add(time.perf_counter() - start)
        return item

    with server.queue.admit():
        return await server.queue.run(timed)


def _review_item(loaded: LoadedModel, content: bytes, name: str, number: int) -> ReviewItem:
    """Decode and describe one image; runs in the model's thread."""
    if not content:
        raise UploadError("the file is empty", "choose another file")
    image = decode_beside_requests(content)
    proposals = _proposals(loaded, image)
    return ReviewItem(number, name, thumbnail(image), proposals, proposals[0].text if proposals else "")


def _proposals(loaded: LoadedModel, image: Image.Image) -> tuple[Proposal, ...]:
    suggestions = suggest_captions(loaded.model, [image], MAX_PROPOSALS, loaded.reference)[0].suggestions
    if not suggestions and (problem := getattr(loaded.model, "last_error", "")):
        raise UploadError(f"the model returned no suggestion: {problem}", "try again later", status=502)
    return tuple(Proposal(each.text, each.confidence) for each in suggestions)


def _require_captioner(loaded: LoadedModel) -> LoadedModel:
    if not loaded.can_describe:
        raise CapabilityError(
            f"{loaded.ref} searches pictures but cannot write captions",
            "use the Search page, or start the server with a model that describes, such as a SmolVLM (hf:org/name)",
        )
    return loaded


def _add(review: Review, items: list[ReviewItem], rejected: list[RejectedFile]) -> None:
    def added(page: ReviewPage) -> ReviewPage:
        return replace(
            page,
            items=(*page.items, *items),
            rejected=tuple(rejected),
            last_number=page.last_number + len(items),
        )

    if review.page == ReviewPage():
        review.begin(added(review.page))  # the first upload cannot be undone
    else:
        review.step(f"adding {labels.num_images(len(items))}", added)


def _example_samples(data: Dataset) -> list[Sample]:
    samples = [sample for sample in data if sample.split == TEST] or list(data)
    return samples[:: max(1, len(samples) // MAX_EXAMPLES)][:MAX_EXAMPLES]


def _captions(form: Mapping[str, str]) -> dict[int, str]:
    captions = {}
    for name, value in form.items():
        number = name.removeprefix("caption-")
        if number != name and number.isascii() and number.isdigit() and len(number) < 7:
            captions[int(number)] = value
    return captions


def _step(review: Review, step: str, captions: dict[int, str]) -> StepResult:
    if step == "undo":
        undone = review.undo(captions)
        announcement = f"Undone: {undone}" if undone else "There is nothing to undo"
        return StepResult(announcement, "undo" if review.next_undo else "accept-all")
    if step == "accept-all":
        review.step("accepting all", lambda page: _accept_all(page.with_captions(captions)))
        return StepResult(f"{_progress(review.page)}.", "download")
    if step == "save":
        review.step("editing", lambda page: page.with_captions(captions))
        return StepResult("Saved.")
    page = review.page.with_captions(captions)
    if use := USE_STEP.fullmatch(step):
        return _use(review, page.item(int(use[1])), int(use[2]), captions)
    match = ITEM_STEP.fullmatch(step)
    if match is None:
        raise RequestRejected(f"there is no step {step[:40]!r}", "use the buttons of the page")
    item = page.item(int(match[2]))
    if match[1] == "accept":
        return _accept(review, item, captions)
    review.step(f"removing {item.file}", lambda page: _without(page.with_captions(captions), item))
    return StepResult(f"Removed {item.file}. Undo brings it back.", "undo")


def _use(review: Review, item: ReviewItem, choice: int, captions: Mapping[int, str]) -> StepResult:
    if not 1 <= choice <= len(item.proposals):
        raise RequestRejected("there is no such suggestion", "use the buttons of the page")
    text = item.proposals[choice - 1].text
    return _accept(review, replace(item, caption=text), captions, f"choosing “{text}”")


def _accept(review: Review, item: ReviewItem, captions: Mapping[int, str], step: str = "") -> StepResult:
    if not item.caption:
        review.step("editing", lambda page: page.with_captions(captions))
        sentence = f"Write a caption for {item.file} first, or remove it."
        return StepResult(sentence, f"caption-{item.number}", sentence)
    accepted = replace(item, accepted=True)
    review.step(step or f"accepting {item.file}", lambda page: page.with_captions(captions).with_item(accepted))
    remaining = [i.number for i in review.page.items if not i.accepted]
    later = [number for number in remaining if number > item.number] or remaining
    focus = f"caption-{later[0]}" if later else "download"
    return StepResult(f"Accepted “{item.caption}”. {_progress(review.page)}.", focus)


def _accept_all(page: ReviewPage) -> ReviewPage:
    return replace(page, items=tuple(replace(item, accepted=bool(item.caption)) for item in page.items))


def _without(page: ReviewPage, removed: ReviewItem) -> ReviewPage:
    return replace(page, items=tuple(item for item in page.items if item.number != removed.number))


def _progress(page: ReviewPage) -> str:
    return f"{len(page.accepted)} of {len(page.items)} accepted"
