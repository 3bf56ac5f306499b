"""``/describe``: pictures in, suggested captions out, reviewed by a person, taken home as CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import isnan
from urllib.parse import parse_qsl

from PIL import Image
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.apps.describe import captions_csv, describe
from clerestory.core.errors import CapabilityError, UploadError
from clerestory.core.sample import TEST, Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.report import format
from clerestory.web.confidence import explain
from clerestory.web.model_follower import Served
from clerestory.web.pictures import A_WHILE, picture_response, small
from clerestory.web.reviews import PICTURES_PER_REVIEW, Item, Page, Problem, Proposal, Review
from clerestory.web.security import Turned, read_body
from clerestory.web.state import Site, site
from clerestory.web.uploads import PICTURE_BYTES, PICTURES, file_name, parts
from clerestory.web.views import page

SUGGESTIONS = 3
EXAMPLES = 3
FORM_BYTES = 500_000
ON_ITEM = re.compile(r"(accept|remove)-(\d{1,6})", re.ASCII)
USE = re.compile(r"use-(\d{1,6})-(\d{1,6})", re.ASCII)


async def start(request: Request) -> Response:
    """``GET /describe``: choose pictures."""
    here = site(request)
    _able(here.live.served)
    examples = min(EXAMPLES, len(here.data)) if here.data is not None else 0
    return page(request, "describe.html", {"served": here.live.served, "examples": examples} | _drop(here))


async def upload(request: Request) -> Response:
    """``POST /describe`` and ``POST /describe/{review}/more``: describe what is sent, one picture after another."""
    here = site(request)
    with here.work.admit():
        served = _able(here.live.served)
        review = here.reviews.get(request.path_params["review"]) if "review" in request.path_params else None
        items: list[Item] = []
        problems: list[Problem] = []
        before = len(review.page.items) if review else 0
        given = review.page.given if review else 0
        async for part in parts(request):
            if part.field != "pictures" or part.file is None or not (part.file or part.content or part.problem):
                continue
            name = file_name(part.file)
            try:
                if part.problem:
                    raise part.problem
                _room(len(items), before)
                item = await here.work.run(_look, served, part.content, name, given + len(items) + 1)
            except UploadError as error:
                problems.append(Problem(name, error.message, error.fix))
            else:
                items.append(item)
    if not items and not problems:
        raise Turned("no picture was chosen", "choose at least one picture", kind="invalid_request")
    review = review or here.reviews.new(served.ref)
    _add(review, items, problems)
    return RedirectResponse(f"/describe/{review.id}", status_code=303)


async def examples(request: Request) -> Response:
    """``POST /describe/examples``: a review of a few of our own pictures."""
    here = site(request)
    if here.data is None or not len(here.data):
        raise Turned("this server has no pictures of its own", "choose some of yours")
    with here.work.admit():
        served = _able(here.live.served)
        items = []
        for number, sample in enumerate(_some(here.data), start=1):
            content = here.data.read(sample)
            items.append(await here.work.run(_look, served, content, file_name(sample.id), number))
    review = here.reviews.new(served.ref)
    _add(review, items, [])
    return RedirectResponse(f"/describe/{review.id}", status_code=303)


async def review_page(request: Request) -> Response:
    """``GET /describe/{review}``: the review as it stands."""
    return _show(request, site(request).reviews.get(request.path_params["review"]))


async def review_step(request: Request) -> Response:
    """``POST /describe/{review}``: one step, such as ``do=accept-3``; the captions in the form come along."""
    review = site(request).reviews.get(request.path_params["review"])
    body = (await read_body(request, FORM_BYTES)).decode("utf-8", "replace")
    try:
        form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=2 * PICTURES_PER_REVIEW + 20))
    except ValueError as error:
        raise Turned("the form has too many fields", "send it from the page") from error
    said, focus, notice = _take(review, form.get("do", "keep"), _captions(form))
    if request.headers.get("hx-request") == "true":
        return _show(request, review, said, focus, notice)
    anchor = f"#{focus}" if focus else "#captions"
    return _show(request, review, said, focus, notice) if notice else _back(review, anchor)


async def preview(request: Request) -> Response:
    """``GET /describe/{review}/{number}.webp``: the small copy of one picture."""
    review = site(request).reviews.get(request.path_params["review"])
    item = review.page.item(request.path_params["number"])
    return picture_response(item.preview, {"cache-control": A_WHILE})


async def table(request: Request) -> Response:
    """``GET /describe/{review}/captions.csv``: what was accepted."""
    review = site(request).reviews.get(request.path_params["review"])
    rows = [
        {
            "file": item.file,
            "caption": item.caption,
            "suggested": item.proposals[0].text if item.proposals else "",
            "how sure": item.proposals[0].sure.words if item.proposals and item.proposals[0].sure else "",
            "suggested by": review.release,
        }
        for item in review.page.accepted
    ]
    if not rows:
        raise Turned("nothing has been accepted yet", "accept at least one caption first", status=409, kind="conflict")
    headers = {"content-disposition": 'attachment; filename="captions.csv"'}
    return Response(captions_csv(rows).encode("utf-8"), media_type="text/csv; charset=utf-8", headers=headers)


def _drop(here: Site) -> dict[str, object]:
    pace = format.duration(max(0.1, here.work.seconds)) if here.work.done else ""
    return {
        "most": PICTURES,
        "megabytes": PICTURE_BYTES // 1_000_000,
        "pace": pace,
        "action": "/describe",
        "label": "Choose pictures",
    }


def _show(request: Request, review: Review, said: str = "", focus: str = "", notice: str = "") -> Response:
    here = site(request)
    served = here.live.current
    scale = served.sure.captions if served else None
    explained = explain(scale, "pictures of things", "a suggestion is right when it is one of the picture's own names.")
    context = _drop(here) | {
        "review": review,
        "said": said,
        "focus": f"#{focus}" if focus else "",
        "notice": notice,
        "explanation": explained,
        "action": f"/describe/{review.id}/more",
        "label": "Choose more pictures",
    }
    return page(request, "review.html", context)


def _back(review: Review, anchor: str) -> Response:
    return RedirectResponse(f"/describe/{review.id}{anchor}", status_code=303)


def _room(taken: int, before: int) -> None:
    if taken >= PICTURES:
        raise UploadError(f"it is more than {PICTURES} pictures at once", "send it in a second round", status=413)
    if before + taken >= PICTURES_PER_REVIEW:
        fix = "download this review and begin another"
        raise UploadError(f"a review holds at most {PICTURES_PER_REVIEW} pictures", fix, status=413)


def _look(served: Served, content: bytes, name: str, number: int) -> Item:
    """Decode and describe one picture; runs in the model's thread."""
    if not content:
        raise UploadError("the file is empty", "choose another file")
    picture = decode_image(content)
    proposals = _proposals(served, picture)
    return Item(number, name, small(picture), proposals, proposals[0].text if proposals else "")


def _proposals(served: Served, picture: Image.Image) -> tuple[Proposal, ...]:
    scale = served.sure.captions
    found = describe(served.model, [picture], SUGGESTIONS)[0]
    if not found and (problem := getattr(served.model, "trouble", "")):
        raise UploadError(f"it got no suggestion: {problem}", "try again later", status=502)
    return tuple(Proposal(s.text, scale.sure(s.score) if scale and not isnan(s.score) else None) for s in found)


def _able(served: Served) -> Served:
    if not served.describes:
        raise CapabilityError(
            f"{served.ref} finds pictures but cannot describe them: it writes no words",
            "use the Search page, or start the server with a model that describes, such as a SmolVLM (hf:org/name)",
        )
    return served


def _add(review: Review, items: list[Item], problems: list[Problem]) -> None:
    def added(page: Page) -> Page:
        given = page.given + len(items)
        return replace(page, items=(*page.items, *items), problems=tuple(problems), given=given)

    if review.page == Page():
        review.page = added(review.page)  # the beginning is no step: there is nothing to undo
    else:
        review.step(f"adding {format.plural(len(items), 'picture')}", added)


def _some(data: Dataset) -> list[Sample]:
    seen = [sample for sample in data if sample.split == TEST] or list(data)
    return seen[:: max(1, len(seen) // EXAMPLES)][:EXAMPLES]


def _captions(form: Mapping[str, str]) -> dict[int, str]:
    captions = {}
    for name, value in form.items():
        number = name.removeprefix("caption-")
        if number != name and number.isascii() and number.isdigit() and len(number) < 7:
            captions[int(number)] = value
    return captions


def _take(review: Review, step: str, captions: dict[int, str]) -> tuple[str, str, str]:
    """Take one step; returns what to say, the id of the element to go on with, and a notice."""
    if step == "undo":
        undone = review.undo(captions)
        return (
            f"Undone: {undone}" if undone else "There is nothing to undo",
            "undo" if review.undoes else "accept-all",
            "",
        )
    if step == "accept-all":
        review.step("accepting all", lambda page: _accept_all(page.with_captions(captions)))
        return f"{_count(review.page)}.", "download", ""
    if step == "keep":
        review.step("editing", lambda page: page.with_captions(captions))
        return "Kept.", "", ""
    page = review.page.with_captions(captions)
    if use := USE.fullmatch(step):
        return _use(review, page.item(int(use[1])), int(use[2]), captions)
    one = ON_ITEM.fullmatch(step)
    if one is None:
        raise Turned(f"there is no step called {step[:40]!r}", "use the buttons of the page")
    item = page.item(int(one[2]))
    if one[1] == "accept":
        return _accept(review, item, captions)
    review.step(f"taking out {item.file}", lambda page: _without(page.with_captions(captions), item))
    return f"Took out {item.file}. Undo brings it back.", "undo", ""


def _use(review: Review, item: Item, choice: int, captions: Mapping[int, str]) -> tuple[str, str, str]:
    if not 1 <= choice <= len(item.proposals):
        raise Turned("there is no such suggestion", "use the buttons of the page")
    text = item.proposals[choice - 1].text
    chosen = replace(item, caption=text)
    review.step(f"choosing “{text}”", lambda page: page.with_captions(captions).with_item(chosen))
    return f"The caption of {item.file} is now “{text}”. Accept or edit it.", f"caption-{item.number}", ""


def _accept(review: Review, item: Item, captions: Mapping[int, str]) -> tuple[str, str, str]:
    box = f"caption-{item.number}"
    if not item.caption:
        review.step("editing", lambda page: page.with_captions(captions))
        sentence = f"Write a caption for {item.file} first, or take it out."
        return sentence, box, sentence
    done = replace(item, accepted=True)
    review.step(f"accepting {item.file}", lambda page: page.with_captions(captions).with_item(done))
    waiting = [i.number for i in review.page.items if not i.accepted]
    later = [number for number in waiting if number > item.number] or waiting
    focus = f"caption-{later[0]}" if later else "download"
    return f"Accepted “{item.caption}”. {_count(review.page)}.", focus, ""


def _accept_all(page: Page) -> Page:
    return replace(page, items=tuple(replace(item, accepted=bool(item.caption)) for item in page.items))


def _without(page: Page, gone: Item) -> Page:
    return replace(page, items=tuple(item for item in page.items if item.number != gone.number))


def _count(page: Page) -> str:
    return f"{len(page.accepted)} of {len(page.items)} accepted"
