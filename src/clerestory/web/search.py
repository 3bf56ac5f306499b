"""``GET /``: image search by text, or by similarity to an image of the dataset or of the visitor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from clerestory.apps.confidence import FOREIGN, NO_MATCH, UNLIKE, Confidence, explain
from clerestory.apps.folder_index import QueryPart, compose_query
from clerestory.apps.folder_index.query import WITHOUT_WEIGHT, QueryWords, parse_query
from clerestory.apps.search import SearchHit
from clerestory.apps.training_reference import unlike_sentence
from clerestory.core.codec import Tags
from clerestory.core.errors import CapabilityError
from clerestory.core.sample import Dataset, Sample
from clerestory.store.operations.prediction import RequestKind
from clerestory.web import labels
from clerestory.web.admission import admit
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.places import occupied
from clerestory.web.query_images import QueryImage
from clerestory.web.request_trace import request_trace
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page, url

EXAMPLES = (
    "a feline",
    "automobile",
    "feeling of sadness",
    "something to eat with noodles",
    "bad weather",
    "musical instrument with strings",
)
BUILT_IN = ("icons", "pictograms")  # the data for which these examples were written
MAX_EXAMPLE_LENGTH = 40
PAGE_SIZE = 30
MAX_SHOWN = 240

Matrix = NDArray[np.float32]


class SearchHitView(NamedTuple):
    """An image of the grid; its confidence is None before a search, or where no calibrator was fitted."""

    sample: Sample
    confidence: Confidence | None


class SearchRequest(NamedTuple):
    """The state of the page, all of it from the URL."""

    parsed: QueryWords
    like: str
    image: str
    style: str
    shown: int

    @property
    def query(self) -> str:
        """The words as they were typed."""
        return self.parsed.text

    @property
    def more_url(self) -> str:
        """The URL of the same search with more images."""
        return url("/", q=self.query, like=self.like, image=self.image, style=self.style, n=self.shown + PAGE_SIZE)


def example_queries(data: Dataset | None) -> Sequence[str]:
    """Queries that the data can answer: short captions of its own, unless they are the built-in drawings."""
    if data is None or data.name in BUILT_IN:
        return EXAMPLES
    some = data.samples[:: max(1, len(data) // 40)]
    short = dict.fromkeys(sample.caption for sample in some if 0 < len(sample.caption) <= MAX_EXAMPLE_LENGTH)
    return list(short)[:: max(1, len(short) // len(EXAMPLES))][: len(EXAMPLES)]


def record_search(request: Request, server: ServerState, loaded: LoadedModel, parts: Sequence[str], facts: Tags) -> str:
    """Put the facts of a search into the record of its request; the id of the response.

    Args:
        request: the request.
        server: its server.
        loaded: the model that answered.
        parts: the words and the ids of images that were searched with; only their keyed hash is recorded.
        facts: further properties.
    """
    trace = request_trace(request)
    if trace.loaded is not loaded:  # else it was admitted, perhaps to the candidate of a rollout
        trace.bind(RequestKind.SEARCH, loaded)
    log = server.request_log
    trace.describe(inputs=len(parts), characters=len(parts[0]), input_hash=log.hash_of("search", *parts), facts=facts)
    return trace.response


async def search_page(request: Request) -> Response:
    """The search page in all its states: no query, by text, by image, no results."""
    server = server_state(request)
    wanted = _parse(request)
    loaded = _admitted(request, server, wanted)
    if loaded.embedder is None:
        raise CapabilityError(
            f"{loaded.ref} writes captions but cannot search: it has no embeddings of pictures and text",
            "use the Describe page, or start the server with a model that can search, such as a CLIP (hf:org/name)",
        )
    if loaded.searcher is None:
        raise CapabilityError("the server was started without pictures to search", "start it with --data")
    searcher = loaded.searcher
    problem, unknown_style = "", bool(wanted.style) and wanted.style not in searcher.styles
    if unknown_style:
        problem = f"There is no style called “{wanted.style}”."
        wanted = wanted._replace(style="")
    if wanted.parsed.problem:
        problem = f"{labels.capital(wanted.parsed.problem)}."
    start = time.perf_counter()
    like = await server.in_thread(searcher.sample, wanted.like) if wanted.like else None
    mine = server.query_images.get(wanted.image, loaded.model.digest) if wanted.image else None
    hits: list[SearchHit] = []
    answerable, foreign = True, None
    if wanted.like:
        with occupied(server.queue, request.scope) as place:
            hits = await place.wait(server.queue.submit(searcher.by_image, wanted.like, wanted.shown + 1, wanted.style))
        views = _views(hits[: wanted.shown], loaded.search.of_image(hits[: wanted.shown]))
    elif mine:
        with occupied(server.queue, request.scope) as place:
            hits = await place.wait(
                server.queue.submit(searcher.nearest, mine.embedding, wanted.shown + 1, wanted.style)
            )
        found = hits[: wanted.shown]
        views = _views(found, [UNLIKE] * len(found) if mine.unlike else loaded.search.of_image(found))
    elif wanted.query:
        words, without = wanted.parsed.words, wanted.parsed.without
        if words:
            with occupied(server.queue, request.scope) as place:
                rows = await server.batcher.embed(loaded.embedder, [words, *without], loaded.embedder.dims[-1], place)
                hits = await place.wait(
                    server.queue.submit(searcher.nearest, _query_row(rows), wanted.shown + 1, wanted.style)
                )
            if (match := loaded.search.query) and not without:
                answerable = await server.in_thread(match.is_answerable, searcher.index, rows[0])
            foreign = await server.in_thread(loaded.languages.check, words)
        else:
            problem = "Add what you are looking for: words after a minus only say what to leave out."
        doubt = FOREIGN if foreign else None if answerable else NO_MATCH
        found = hits[: wanted.shown]
        measured = not without or doubt is not None  # of a query of several parts it is not
        views = _views(found, loaded.search.of_text(found, doubt) if measured else [None] * len(found))
    else:
        views = [SearchHitView(sample, None) for sample in searcher.spread(PAGE_SIZE, wanted.style)]
    seconds = time.perf_counter() - start
    searched = bool(wanted.query or like or mine)
    levels = [view.confidence.level for view in views if view.confidence]
    response = ""
    if searched:
        facts = Tags(by="image" if like or mine else "text", likely=str(max(levels)) if levels else "not measured")
        parts = [wanted.query or wanted.like or (mine.id if mine else "")]
        response = record_search(request, server, loaded, parts, facts)
    summary = _summary(len(views), searcher.size(wanted.style), seconds, searched)
    heading = _heading(wanted, like or mine, bool(views))
    if mine and mine.unlike:
        warning = unlike_sentence(1, 1, loaded.reference.data, "pictures")
    else:
        warning = unlike_sentence(*loaded.unlike, loaded.reference.data, "pictures")
    return page(
        request,
        "search.html",
        {
            "model": loaded,
            "query": wanted.query,
            "style": wanted.style,
            "like": like,
            "mine": mine,
            "other_names": _other_names(like) if like else [],
            "styles": searcher.styles,
            "group_title": group_title,
            "examples": example_queries(server.data),
            "hits": views,
            "response": response,
            "back": url("/", q=wanted.query, like=wanted.like, image=wanted.image, style=wanted.style),
            "heading": heading,
            "summary": summary,
            "announcement": f"{heading}: {summary}" if searched else "",
            "doubtful": bool(levels) and max(levels) == 0,
            "answerable": answerable,
            "foreign": foreign,
            "languages": loaded.languages.names,
            "not_measured": searched and bool(views) and not levels,
            "is_composed": bool(wanted.parsed.without),
            "unlike": warning,
            "remedy": labels.OTHER_MODEL if warning else "",
            "problem": problem,
            "unknown_style": unknown_style,
            "more_url": wanted.more_url if len(hits) > wanted.shown and wanted.shown < MAX_SHOWN else "",
            "explanation": _explanation(loaded, like is not None or mine is not None),
        },
    )


def _admitted(request: Request, server: ServerState, wanted: SearchRequest) -> LoadedModel:
    """The release that answers: of a search, as ``admit`` says; of an uploaded image, the one that embedded it.

    Pages without a search show images, which no rollout concerns.
    """
    if not (wanted.parsed.words or wanted.like or wanted.image):
        return server.follower.loaded
    model = server.query_images.model_of(wanted.image) if wanted.image else ""
    return admit(server, request_trace(request), RequestKind.SEARCH, request.headers.get("clerestory-user", ""), model)


def _parse(request: Request) -> SearchRequest:
    query = request.query_params
    parsed = parse_query(query.get("q", ""))
    text = parsed.text
    count = query.get("n", "")
    valid = count.isascii() and count.isdigit() and len(count) < 6
    shown = min(MAX_SHOWN, max(PAGE_SIZE, int(count))) if valid else PAGE_SIZE
    like = "" if text else query.get("like", "")
    image = "" if text or like else query.get("image", "")
    return SearchRequest(parsed, like, image, query.get("style", ""), shown)


def _query_row(rows: Matrix) -> Matrix:
    """The query of the words to find, whose row is the first, and of those to avoid."""
    return compose_query([QueryPart(rows[0]), *(QueryPart(row, -WITHOUT_WEIGHT) for row in rows[1:])])


def _views(hits: list[SearchHit], confidences: list[Confidence | None]) -> list[SearchHitView]:
    return [SearchHitView(hit.sample, confidence) for hit, confidence in zip(hits, confidences, strict=True)]


def _summary(shown: int, total: int, seconds: float, searched: bool) -> str:
    among = labels.num_images(total)
    if not searched:
        return f"{shown} of {among}"
    return f"the {shown} best matches of {among}, in {max(1, round(1000 * seconds))} ms"


def _heading(wanted: SearchRequest, like: Sample | QueryImage | None, any_hits: bool) -> str:
    within = f" in {group_title(wanted.style)}" if wanted.style else ""
    if like:
        return f"More like this{within}" if any_hits else f"Nothing like this{within}"
    if wanted.query:
        return f"“{wanted.query}”{within}" if any_hits else f"No pictures for “{wanted.query}”{within}"
    return f"Some of the pictures{within}"


def _other_names(sample: Sample) -> list[str]:
    seen = {sample.caption.casefold()}
    names = []
    for caption in sample.captions:
        if caption.text.casefold() not in seen and caption.lang == "en":
            seen.add(caption.text.casefold())
            names.append(caption.text)
    return names[:12]


def _explanation(loaded: LoadedModel, by_image: bool) -> str:
    if by_image:
        return explain(loaded.search.image, "pictures of things", "an answer is right when it shows the same thing.")
    return explain(loaded.search.text, "names of things", "an answer is right when it shows the thing named.")


def group_title(value: str) -> str:
    """The value of a group for people: ``fluent-emoji-flat`` becomes ``Fluent emoji flat``."""
    text = value.replace("-", " ").replace("_", " ")
    return text[:1].upper() + text[1:]
