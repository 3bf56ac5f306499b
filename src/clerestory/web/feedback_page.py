"""``/feedback``: the quality in service, what people say, and corrections to decide about."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.apps.corrections import (
    Correction,
    corrections_of,
    decide_corrections,
    effect_sentence,
)
from clerestory.apps.response_origin import iso
from clerestory.core.errors import InputError
from clerestory.core.provenance import current_user
from clerestory.stages.watch.quality import LabelledShare, Period, QualityRow, quality_in_service
from clerestory.store.operations.feedback import CorrectionState, Feedback, FeedbackKind, list_feedback
from clerestory.store.operations.predictions import PredictionFilter
from clerestory.web.request_body import read_body
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page

DAYS = 90
MAX_ROWS = 40  # of the table of quality
MAX_SAID = 30
MAX_READ = 2_000  # newest feedback that is searched for negative ones
MAX_CORRECTIONS = 50
MAX_FORM_BYTES = 20_000
LOW_COMPLETENESS = 0.5


@dataclass(frozen=True, slots=True)
class QualityView:
    """One row of the table.

    Attributes:
        row: the numbers.
        labelled: how many answers have a label, in words.
        right: how many of them are right, in words; empty if none has a label.
        thumbs: the thumbs, in words; empty if there are none.
    """

    row: QualityRow
    labelled: str
    right: str
    thumbs: str


@dataclass(frozen=True, slots=True)
class SaidView:
    """One feedback for people."""

    feedback: Feedback
    words: str
    when: str


async def feedback_page(request: Request) -> Response:
    """``GET /feedback``: by week and version, the newest complaints first, and the corrections."""
    server = server_state(request)
    name = request.query_params.get("name", "")[:100]
    period = request.query_params.get("period", "")
    chosen = Period(period) if period in list(Period) else Period.WEEK
    return page(request, "feedback.html", await asyncio.to_thread(_context, server, name, chosen))


async def decide(request: Request) -> Response:
    """``POST /feedback/corrections``: accept or decline corrections."""
    server = server_state(request)
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=20))
    verb, _, number = form.get("do", "").partition("-")
    states = {"accept": CorrectionState.ACCEPTED, "decline": CorrectionState.DECLINED}
    if verb not in states or not (number.isascii() and number.isdigit() and len(number) < 12):
        raise RequestRejected("there is no such step", "use the buttons of the page")
    try:
        await asyncio.to_thread(
            decide_corrections,
            server.store,
            server.data,
            [int(number)],
            states[verb],
            form.get("who", ""),
            form.get("why", ""),
        )
    except InputError as error:
        raise RequestRejected(error.message, error.fix.replace("--why '...'", "in the field “Why”")) from error
    return RedirectResponse("/feedback#corrections", status_code=303)


def _context(server: ServerState, name: str, period: Period) -> dict[str, object]:
    store = server.store
    store.database.ensure_operations()
    since = time.time() - DAYS * 86_400
    rows = quality_in_service(store, PredictionFilter(name=name, since=since), period)
    with store.database.reading() as connection:
        said = list_feedback(connection, since, MAX_READ)
    negative = [each for each in said if each.is_negative or _corrects(each)]
    corrections = corrections_of(store, server.data)
    served = server.follower.current
    counts = server.request_log.recorder.counts
    return {
        "shown_name": name,
        "period": str(period),
        "days": DAYS,
        "rows": [_view(row) for row in rows[:MAX_ROWS]],
        "num_more": max(0, len(rows) - MAX_ROWS),
        "few": any(row.labelled and row.completeness < LOW_COMPLETENESS for row in rows),
        "negative": [_said(each) for each in negative[:MAX_SAID]],
        "others": [_said(each) for each in said if each not in negative][:MAX_SAID],
        "num_said": len(said),
        "open": [each for each in corrections if not each.feedback.decision][:MAX_CORRECTIONS],
        "decided": _decided(corrections),
        "effect": effect_sentence(store, served.ref) if served else "",
        "dataset": server.data.name if server.data is not None else "",
        "who": current_user(),
        "counts": counts,
        "keeps_images": server.request_log.keep_images,
    }


def _decided(corrections: list[Correction]) -> dict[str, int]:
    states = [str(each.feedback.decision) for each in corrections]
    return {name: states.count(name) for name in ("accepted", "declined")}


def _view(row: QualityRow) -> QualityView:
    labelled = f"{row.labelled:,} of {row.predictions:,} ({100 * row.completeness:.0f} %)"
    return QualityView(row, labelled, _share(row.right), _share(row.thumbs_up))


def _share(share: LabelledShare | None) -> str:
    if share is None:
        return ""
    text = f"{100 * share.value:.0f} % of {share.n:,}"
    if share.low is None or share.high is None:
        return f"{text} (too few to say how exact that is)"
    return f"{text} (between {100 * share.low:.0f} and {100 * share.high:.0f} %)"


def _corrects(item: Feedback) -> bool:
    """Whether it is a caption other than the suggested one."""
    is_other = item.value.strip().casefold() != item.suggested.strip().casefold()
    return item.kind is FeedbackKind.CAPTION and bool(item.value.strip()) and is_other


_WORDS = {
    (FeedbackKind.THUMBS, "up"): "Liked",
    (FeedbackKind.THUMBS, "down"): "Not helpful",
    (FeedbackKind.VERDICT, "right"): "Right",
    (FeedbackKind.VERDICT, "wrong"): "Wrong",
}


def _said(item: Feedback) -> SaidView:
    words = _WORDS.get((item.kind, item.value), "")
    if item.kind in (FeedbackKind.CAPTION, FeedbackKind.LABEL):
        words = f"Should be: “{item.value}”" if item.value else "A correction was withdrawn"
        if item.suggested and item.suggested.casefold() == item.value.casefold():
            words = f"“{item.value}” is right"
    elif item.kind is FeedbackKind.TEXT:
        words = f"“{item.value}”"
    return SaidView(item, words, iso(item.received))
