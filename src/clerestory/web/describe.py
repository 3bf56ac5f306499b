"""``/describe``: images are uploaded, captions suggested, reviewed by a person and downloaded as CSV."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from clerestory.apps.captioning import Suggestion, captions_csv, safe_path, suggest_captions
from clerestory.apps.confidence import explain
from clerestory.apps.describing import look_at_images, tag_encoder
from clerestory.apps.right_model import PHOTOGRAPH
from clerestory.apps.tags import LIKELIHOODS
from clerestory.apps.training_reference import unlike_sentence
from clerestory.core.codec import Tags
from clerestory.core.errors import CapabilityError, ClerestoryError, UploadError
from clerestory.core.sample import TEST, Dataset, Sample
from clerestory.core.units import duration
from clerestory.data.images import declared_size, decode_beside_requests
from clerestory.stages.serve.inference_queue import Overloaded
from clerestory.store.operations.feedback import WRONG, Feedback, FeedbackKind
from clerestory.store.operations.prediction import Prediction, RequestKind, new_response_id
from clerestory.web import labels
from clerestory.web.feedback import record
from clerestory.web.images import LARGE_SIDE, SHORT_LIVED, image_response, thumbnail
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.request_body import read_body
from clerestory.web.request_ids import new_request_id
from clerestory.web.review_steps import WRONG_STEP, StepResult, caption_feedback, edits_of, take_step
from clerestory.web.review_values import Proposal, RejectedFile, ReviewItem, join_tags, rejection_groups
from clerestory.web.reviews import MAX_IMAGES_PER_REVIEW, Review
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.uploads import MAX_IMAGE_BYTES, MAX_IMAGES, file_name, form_parts
from clerestory.web.views import page, release_header, url, wants_json

LOG = logging.getLogger("clerestory.web")
MAX_PROPOSALS = 3
MAX_EXAMPLES = 3
PAGE_SIZE = 50
MAX_FORM_BYTES = 500_000


async def start_page(request: Request) -> Response:
    """``GET /describe``: choose images."""
    server = server_state(request)
    loaded = require_describer(server.follower.loaded)
    examples = min(MAX_EXAMPLES, len(server.data)) if server.data is not None else 0
    unlike = unlike_sentence(*loaded.unlike, loaded.reference.data, "pictures")
    context = {"model": loaded, "examples": examples, "unlike": unlike, "remedy": labels.OTHER_MODEL}
    folder = await asyncio.to_thread(server.describing.context) if server.describing else {}
    return page(request, "describe.html", context | _drop_context(server) | folder)


async def upload(request: Request) -> Response:
    """``POST /describe`` and ``POST /describe/{review}/more``: describe uploaded images, one after another.

    The script of the page sends each image in a request of its own, all with the same id in the field ``upload``, and
    gets the state of the review as JSON. The live release describes, also during a rollout: a review is one document,
    which people continue for days, and its images do not fail independently.
    """
    server = server_state(request)
    loaded = require_describer(server.follower.loaded)
    review = await review_of(request) if "review" in request.path_params else None
    images: list[tuple[ReviewItem, bytes]] = []
    rejected: list[RejectedFile] = []
    num_before = len(review.page.items) if review else 0
    upload_id = ""
    async for part in form_parts(request):
        if part.field == "upload":
            upload_id = part.text[:64]
        if part.field != "images" or part.file is None or not (part.file or part.content or part.error):
            continue
        name = file_name(part.file)
        try:
            if part.error:
                raise part.error
            _check_limits(len(images), num_before)
            images.append(await _described(server, loaded, part.content, name))
        except Overloaded as error:
            if not images:
                raise
            rejected.append(RejectedFile(name, error.message, error.fix))
        except UploadError as error:
            rejected.append(RejectedFile(name, error.message, error.fix))
    if not images and not rejected:
        raise RequestRejected("no picture was chosen", "choose at least one picture", kind="invalid_request")
    review = review or server.reviews.new(loaded.ref)
    await asyncio.to_thread(review.add, images, rejected, upload_id)
    first_page = _page_of(review, review.page.last_number - review.page.num_uploaded + 1)
    address = url(f"/describe/{review.id}", page=first_page if first_page > 1 else "")
    if wants_json(request):
        return JSONResponse(
            {
                "review": address,
                "more": f"/describe/{review.id}/more",
                "accepted": len(images),
                "room": max(0, MAX_IMAGES_PER_REVIEW - len(review.page.items)),
            },
            headers=release_header(loaded.ref),
        )
    return RedirectResponse(address, status_code=303, headers=release_header(loaded.ref))


async def examples(request: Request) -> Response:
    """``POST /describe/examples``: a review of a few images of the dataset."""
    server = server_state(request)
    if server.data is None or not len(server.data):
        raise RequestRejected("this server has no example pictures", "choose some of your own")
    loaded = require_describer(server.follower.loaded)
    images = []
    for sample in _example_samples(server.data):
        content = await asyncio.to_thread(server.data.read, sample)
        images.append(await _described(server, loaded, content, file_name(sample.id)))
    review = server.reviews.new(loaded.ref)
    await asyncio.to_thread(review.add, images, [])
    return RedirectResponse(f"/describe/{review.id}", status_code=303)


async def review_page(request: Request) -> Response:
    """``GET /describe/{review}``: the current state of a review, ``PAGE_SIZE`` images at a time."""
    return _render(request, await review_of(request))


async def review_step(request: Request) -> Response:
    """``POST /describe/{review}``: one step, such as ``do=accept-3``, with all captions of the form."""
    review = await review_of(request)
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    try:
        form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=3 * PAGE_SIZE + 20))
    except ValueError as error:
        raise RequestRejected("the form has too many fields", "send it from the page") from error
    step, before = form.get("do", "save"), review.page
    if wrong := WRONG_STEP.fullmatch(step):
        result = await _say_wrong(server_state(request), review, int(wrong[1]), edits_of(form))
    else:
        result = await asyncio.to_thread(take_step, review, step, edits_of(form))
    await _tell(server_state(request), caption_feedback(before, review.page))
    if request.headers.get("hx-request") == "true" or result.notice:
        return _render(request, review, result)
    number = _page_number(request, review, result)
    address = url(f"/describe/{review.id}", page=number if number > 1 else "")
    return RedirectResponse(f"{address}#{result.focus or 'captions'}", status_code=303)


async def _say_wrong(server: ServerState, review: Review, number: int, edits: dict[str, str]) -> StepResult:
    """No suggestion of an image is right; it is on the disk before it is acknowledged.

    Raises:
        NotFound: the image is not in the review, or the record of its suggestions was removed.
        NotWritable: the disk is full or read-only.
    """
    await asyncio.to_thread(take_step, review, "save", edits)
    item = review.page.item(number)
    if item.response:
        (result,) = await record(server, [Feedback(item.response, FeedbackKind.VERDICT, WRONG, "page")])
        if result.error is not None:
            raise result.error
    sentence = f"Thank you. Write the right caption for {item.file}, if you like."
    return StepResult(sentence, f"caption-{number}", item=number)


async def _tell(server: ServerState, items: Sequence[Feedback]) -> None:
    """Record what the accepted captions say of the suggestions; the review itself is on the disk already."""
    if items:
        try:
            await record(server, items)
        except ClerestoryError as error:
            LOG.warning("accepted captions are in the review, but not in the feedback: %s", error)


async def preview(request: Request) -> Response:
    """``GET /describe/{review}/{number}.webp``: one image, small; ``?large=1`` is the large copy."""
    review = await review_of(request)
    item = review.page.item(request.path_params["number"])
    large = None
    if request.query_params.get("large"):
        large = await asyncio.to_thread(review.files.read_large, review.id, item.number)
    return image_response(large or item.preview, {"cache-control": SHORT_LIVED})


async def download(request: Request) -> Response:
    """``GET /describe/{review}/captions.csv``: the accepted captions."""
    review = await review_of(request)
    has_tags = any(item.tags is not None for item in review.page.items)
    rows = [_csv_row(item, review.release, has_tags) for item in review.page.accepted]
    if not rows:
        raise RequestRejected("nothing is accepted yet", "accept at least one first", status=409, kind="conflict")
    headers = {"content-disposition": 'attachment; filename="captions.csv"'}
    return Response(captions_csv(rows).encode("utf-8"), media_type="text/csv; charset=utf-8", headers=headers)


async def review_of(request: Request) -> Review:
    """The review of the URL; in a thread, since it may have to be read from the disk."""
    return await asyncio.to_thread(server_state(request).reviews.get, request.path_params["review"])


def _csv_row(item: ReviewItem, release: str, has_tags: bool) -> dict[str, object]:
    best = item.proposals[0] if item.proposals else None
    row: dict[str, object] = {
        "file": safe_path(item.file),
        "caption": item.caption,
        "suggested": best.text if best else "",
        "confidence": best.confidence.label if best and best.confidence else "",
        "suggested by": release,
    }
    return row | ({"tags": item.tag_text, "suggested tags": item.suggested_tags} if has_tags else {})


def _drop_context(server: ServerState) -> dict[str, object]:
    seconds = server.caption_seconds.value
    pace = duration(seconds) if server.caption_seconds.count and seconds >= 1 else ""
    return {
        "max_images": MAX_IMAGES,
        "max_images_per_review": MAX_IMAGES_PER_REVIEW,
        "max_bytes": MAX_IMAGE_BYTES,
        "pace": pace,
        "action": "/describe",
        "label": "Choose pictures",
    }


def _render(request: Request, review: Review, result: StepResult | None = None) -> Response:
    server = server_state(request)
    result = result or StepResult("")
    loaded = server.follower.current
    calibrator = loaded.reference.captions if loaded else None
    items = review.page.items
    num_unlike, trained_on = sum(item.unlike for item in items), loaded.reference.data if loaded else ""
    correct_when = "a suggestion is right when it is one of the picture's own names."
    number = _page_number(request, review, result)
    context = _drop_context(server) | {
        "review": review,
        "progress": server.describing.progress_of(review) if server.describing else {},
        "items": review.page.items[(number - 1) * PAGE_SIZE : number * PAGE_SIZE],
        "rejections": rejection_groups(review.page.rejected),
        "number": number,
        "num_pages": _num_pages(review),
        "announcement": result.announcement,
        "focus": f"#{result.focus}" if result.focus else "",
        "notice": result.notice,
        "unlike": unlike_sentence(num_unlike, len(items), trained_on, "pictures"),
        "remedy": labels.OTHER_MODEL,
        "explanation": explain(calibrator, "pictures of things", correct_when),
        "with_captions": any(item.tags is None for item in items) or not items,
        "tags_explanation": _tags_explanation() if any(item.tags is not None for item in items) else "",
        "with_drafts": any(item.tags is not None and item.proposals for item in items),
        "action": f"/describe/{review.id}/more",
        "label": "Choose more pictures",
    }
    return page(request, "review.html", context)


def _tags_explanation() -> str:
    levels = ", ".join(f"“{words}” at least {round(100 * minimum)} in 100" for minimum, words in LIKELIHOODS)
    return (
        f"The words beside a tag say how many of such tags are right: {levels}. It was measured on photographs with "
        f"captions, where a tag is right if a caption has the word. “Not sure”: no tag is likely enough to be shown."
    )


def _page_number(request: Request, review: Review, result: StepResult) -> int:
    """The page of the review to show after a step: that of the image to go on with, or that of the address."""
    given = request.query_params.get("page", "")
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 7 else 1
    if result.item:
        number = _page_of(review, result.item)
    return min(max(1, result.turn_to or number), _num_pages(review))


def _page_of(review: Review, item: int) -> int:
    """The page with an image; of an image that is not in the review, where it would be."""
    return sum(each.number < item for each in review.page.items) // PAGE_SIZE + 1


def _num_pages(review: Review) -> int:
    return max(1, -(-len(review.page.items) // PAGE_SIZE))


def _check_limits(num_uploaded: int, num_before: int) -> None:
    if num_uploaded >= MAX_IMAGES:
        raise UploadError(
            f"one upload has at most {MAX_IMAGES} pictures", "add it with “Choose more pictures” below", status=413
        )
    if num_before + num_uploaded >= MAX_IMAGES_PER_REVIEW:
        fix = "download this review and begin another"
        raise UploadError(f"a review has at most {MAX_IMAGES_PER_REVIEW} pictures", fix, status=413)


async def _described(server: ServerState, loaded: LoadedModel, content: bytes, name: str) -> tuple[ReviewItem, bytes]:
    """One image with its suggestions, and its large copy; it takes its place in the queue when it has arrived.

    Raises:
        Overloaded: the queue is full.
        UploadError: the image cannot be used.
    """
    with server.queue.admit() as place:
        return await place.wait(server.queue.submit(described_image, server, loaded, content, name))


def described_image(server: ServerState, loaded: LoadedModel, content: bytes, name: str) -> tuple[ReviewItem, bytes]:
    """One image with its suggestions, and its large copy; runs in the model's thread.

    Raises:
        UploadError: the image cannot be used.
    """
    start = time.perf_counter()
    item, large = _review_item(server, loaded, content, name)
    seconds = time.perf_counter() - start
    server.caption_seconds.add(seconds)
    return replace(item, response=_record_suggestions(server, loaded, item, content, seconds)), large


def _record_suggestions(
    server: ServerState, loaded: LoadedModel, item: ReviewItem, content: bytes, seconds: float
) -> str:
    """Put the suggestions of one image into the request log; the id of the response."""
    log = server.request_log
    width, height = declared_size(content)
    prediction = Prediction(
        response=new_response_id(),
        request=new_request_id(()),
        at=time.time() - seconds,
        kind=RequestKind.CAPTION,
        name=loaded.release.name if loaded.release else loaded.ref,
        number=loaded.number,
        model=loaded.model.digest,
        latency_s=seconds,
        images=1,
        pixels=width * height,
        input_hash=log.hash_of("input", content),
        label=log.caption(item.proposals[0].text) if item.proposals else "",
        facts=Tags(unlike=str(item.unlike).lower()),
    )
    log.observe(prediction, None, (content,))
    return prediction.response


def _review_item(server: ServerState, loaded: LoadedModel, content: bytes, name: str) -> tuple[ReviewItem, bytes]:
    """Decode and describe one image; runs in the model's thread."""
    if not content:
        raise UploadError("the file is empty", "choose another file")
    image = decode_beside_requests(content)
    if loaded not in server.tag_encoders:  # digests of files and look-ups in the store: too slow for each image
        server.tag_encoders[loaded] = tag_encoder(server.store, loaded.model, loaded.ref)
    encoder = server.tag_encoders[loaded]
    (seen,) = look_at_images(encoder, [image]) if encoder else (None,)
    if seen and (seen.kind == PHOTOGRAPH or encoder is loaded.model):
        tags = seen.tags if seen.kind == PHOTOGRAPH else None
        drafts = tuple(Proposal(draft.text, None) for draft in seen.drafts)
        best = drafts[0].text if drafts else ""
        item = ReviewItem(0, name, b"", drafts, best, tags=tags, tag_text=join_tags(tags or ()))
    else:
        suggested = suggest_captions(loaded.model, [image], MAX_PROPOSALS, loaded.reference)[0]
        proposals = _proposals(loaded, suggested.suggestions)
        item = ReviewItem(0, name, b"", proposals, proposals[0].text if proposals else "", unlike=suggested.unlike)
    large = thumbnail(image, LARGE_SIDE)  # the larger one first: it reduces the image
    return replace(item, preview=thumbnail(image)), large


def _proposals(loaded: LoadedModel, suggestions: Sequence[Suggestion]) -> tuple[Proposal, ...]:
    if not suggestions and (problem := getattr(loaded.model, "last_error", "")):
        raise UploadError(f"the model returned no suggestion: {problem}", "try again later", status=502)
    return tuple(Proposal(each.text, each.confidence) for each in suggestions)


def require_describer(loaded: LoadedModel) -> LoadedModel:
    """The model itself.

    Raises:
        CapabilityError: it neither writes captions nor tags photographs.
    """
    if not loaded.can_describe:
        raise CapabilityError(
            f"{loaded.ref} searches pictures but cannot write captions",
            "use the Search page, or start the server with a model that describes, such as a SmolVLM (hf:org/name)",
        )
    return loaded


def _example_samples(data: Dataset) -> list[Sample]:
    samples = [sample for sample in data if sample.split == TEST] or list(data)
    return samples[:: max(1, len(samples) // MAX_EXAMPLES)][:MAX_EXAMPLES]
