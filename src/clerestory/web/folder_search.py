"""``GET /`` of a server with a folder: search by words, by images, by both, and browsing by date."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clerestory.apps.confidence import FOREIGN, NOT_MEASURED, UNLIKE, Confidence, explain
from clerestory.apps.folder_index import FolderHit, QueryPart, SearchFilter, compose_query
from clerestory.apps.folder_index.query import WITHOUT_WEIGHT, QueryWords, parse_query
from clerestory.apps.query_language import ForeignQuery
from clerestory.apps.query_match import QueryMatch
from clerestory.apps.search import SearchHit
from clerestory.apps.tags import Tag, reasons
from clerestory.apps.training_reference import unlike_sentence
from clerestory.core.codec import Tags
from clerestory.core.errors import InputError, NotFound
from clerestory.core.sample import Sample
from clerestory.web import labels
from clerestory.web.folder_images import indexed_folder
from clerestory.web.folder_library import IndexedFolder
from clerestory.web.folder_view import FolderImage, FolderView
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.query_images import QueryImage
from clerestory.web.search import record_search
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page

PAGE_SIZE = 36
MAX_SHOWN = 600
MAX_IMAGES = 4  # in one query
MAX_UNREADABLE = 200
MAX_CLOSEST = 12  # shown where nothing matches
NO_WORDS = QueryWords("", "", ())

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FolderQuery:
    """The state of the page, all of it from the URL.

    Attributes:
        parsed: the words as they were typed.
        likes: ids of images of the folder.
        images: ids of uploaded images.
        under, year, orientation: the filters.
        shown: the number of images on the page.
    """

    parsed: QueryWords = NO_WORDS
    likes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    under: str = ""
    year: str = ""
    orientation: str = ""
    shown: int = PAGE_SIZE

    @property
    def text(self) -> str:
        """The words as they were typed."""
        return self.parsed.text

    @property
    def words(self) -> str:
        """The words to find."""
        return self.parsed.words

    @property
    def without(self) -> tuple[str, ...]:
        """The words to avoid."""
        return self.parsed.without

    @property
    def is_empty(self) -> bool:
        """Whether nothing is searched for."""
        return not (self.words or self.likes or self.images)

    def url(self, **changes: object) -> str:
        """The URL of this state with some values changed."""
        values = {
            "q": self.text, "like": self.likes, "image": self.images, "under": self.under, "year": self.year,
            "orientation": self.orientation, "n": "",
        } | changes  # fmt: skip
        pairs = [(name, v) for name, value in values.items() for v in (value if isinstance(value, tuple) else (value,))]
        pairs = [(name, v) for name, v in pairs if v != ""]
        return f"/?{urlencode(pairs)}" if pairs else "/"


class Chip(NamedTuple):
    """A image of the query, with the URL of its thumbnail and of the query without it."""

    name: str
    thumbnail: str
    remove_url: str


class ImageView(NamedTuple):
    """One image of the grid, the caption that it has, its confidence, and where its links lead.

    ``like_url`` begins a new search with it, ``add_url`` adds it to this one; empty if that is not possible. ``tags``
    says what it shows, None if there are no tags to be had; ``shared`` are those that the query names or shows.
    """

    image: FolderImage
    caption: str
    confidence: Confidence | None
    like_url: str
    add_url: str
    tags: tuple[Tag, ...] | None
    shared: tuple[str, ...]

    @property
    def shows(self) -> str:
        """What it shows, in one sentence; empty if there are no tags to be had."""
        return "" if self.tags is None else labels.tags_sentence(self.tags)


@dataclass(slots=True)
class FolderResult:
    """What a search found.

    Attributes:
        views: the images.
        total: how many images meet the conditions.
        more: whether there are more of them.
        matches: whether any image matches the words.
        foreign: the language of the words, if it is not one of the model's.
        problem: one sentence on what was left out of the query.
    """

    views: list[ImageView] = field(default_factory=list)
    total: int = 0
    more: bool = False
    matches: bool = True
    foreign: ForeignQuery | None = None
    problem: str = ""


async def search_page(request: Request) -> Response:
    """The page in all its states: browsing, by words, by images, nothing found, while the folder is indexed."""
    server = server_state(request)
    library, indexed = indexed_folder(server)
    loaded = server.follower.loaded
    view, query = indexed.view, parse(request)
    query, result, chips = await _search(server, loaded, indexed, view, query)
    heading, summary = _heading(query, result), _summary(query, result)
    levels = [each.confidence.level for each in result.views if each.confidence]
    unlike = unlike_sentence(*indexed.unlike, loaded.reference.data, "pictures")
    response = ""
    if not query.is_empty and result.views:
        facts = Tags(by="text" if query.words else "image", likely=str(max(levels)) if levels else "not measured")
        response = record_search(request, server, loaded, [query.text, *query.likes, *query.images], facts)
    return page(
        request,
        "folder.html",
        {
            "model": loaded,
            "folder": library,
            "indexed": indexed,
            "progress": progress_of(indexed),
            "query": query,
            "chips": chips,
            "response": response,
            "view": view,
            "result": result,
            "heading": heading,
            "summary": summary,
            "announcement": f"{heading}: {summary}" if not query.is_empty else "",
            "doubtful": bool(levels) and max(levels) == 0,
            "more_url": query.url(n=query.shown + PAGE_SIZE) if result.more and query.shown < MAX_SHOWN else "",
            "not_measured": NOT_MEASURED,
            "unreadable": indexed.unreadable[:MAX_UNREADABLE],
            "languages": loaded.languages.names,
            "unlike": unlike,
            "remedy": labels.OTHER_MODEL if unlike else "",
            "explanation": _explanation(indexed, query),
        },
    )


async def progress(request: Request) -> Response:
    """``GET /folder/progress``: how far the indexing is, for the script of the page."""
    _, indexed = indexed_folder(server_state(request))
    return JSONResponse(progress_of(indexed))


def progress_of(indexed: IndexedFolder) -> dict[str, object]:
    """How far the indexing is: numbers, and a sentence for people."""
    status, searchable = indexed.status, len(indexed.index)
    total = max(status.total, searchable)
    running = status.running or not indexed.scanned
    if not total:
        sentence = "Looking for pictures in the folder…" if running else ""
    elif running and searchable < total:
        sentence = f"{searchable:,} of {labels.num_images(total)} are searchable; the others are being read."
    else:
        sentence = f"All {labels.num_images(total)} are searchable."
    return {
        "running": running,
        "visible": running and searchable < total or not total,
        "searchable": searchable,
        "done": min(max(status.done, searchable), total),
        "total": total,
        "sentence": sentence,
    }


def parse(request: Request) -> FolderQuery:
    """The query of a URL; values that make no sense are left out."""
    parameters = request.query_params
    count = parameters.get("n", "")
    valid = count.isascii() and count.isdigit() and len(count) < 6
    likes = tuple(dict.fromkeys(filter(None, parameters.getlist("like"))))[:MAX_IMAGES]
    images = tuple(dict.fromkeys(filter(None, parameters.getlist("image"))))[: MAX_IMAGES - len(likes)]
    return FolderQuery(
        parse_query(parameters.get("q", "")),
        tuple(each[:64] for each in likes),
        tuple(each[:64] for each in images),
        parameters.get("under", ""),
        parameters.get("year", ""),
        parameters.get("orientation", ""),
        min(MAX_SHOWN, max(PAGE_SIZE, int(count))) if valid else PAGE_SIZE,
    )


async def _search(
    server: ServerState, loaded: LoadedModel, indexed: IndexedFolder, view: FolderView, query: FolderQuery
) -> tuple[FolderQuery, FolderResult, list[Chip]]:
    """The results of a query, without images that are gone."""
    likes = {each: place for each in query.likes if (place := view.place(each)) is not None}
    mine: dict[str, QueryImage] = {}
    for each in query.images:
        try:
            mine[each] = server.query_images.get(each, loaded.model.digest)
        except NotFound:
            continue
    lost = len(likes) + len(mine) < len(query.likes) + len(query.images)
    query = replace(query, likes=tuple(likes), images=tuple(mine))
    chips = [
        Chip(view.image(place).name, f"/folder/images/{each}/small", query.url(like=_without(query.likes, each)))
        for each, place in likes.items()
    ]
    chips += [
        Chip(image.file, f"/query-images/{each}.webp", query.url(image=_without(query.images, each)))
        for each, image in mine.items()
    ]
    filters = view.filters(query.under, query.year, query.orientation)
    if query.is_empty:
        result = await asyncio.to_thread(_browse, indexed, view, query, filters)
        if query.without:
            result.problem = "Add what you are looking for: words after a minus only say what to leave out."
    else:
        parts = [QueryPart(np.asarray(view.snapshot.matrix[view.snapshot.state.rows[p]])) for p in likes.values()]
        parts += [QueryPart(image.embedding) for image in mine.values()]
        texts = [text for text in (query.words, *query.without) if text]
        if texts:
            assert loaded.embedder is not None
            with server.queue.admit() as held:
                rows = await server.batcher.embed(loaded.embedder, texts, max(loaded.embedder.dims), held)
            parts += [QueryPart(row, 1.0 if i == 0 and query.words else -WITHOUT_WEIGHT) for i, row in enumerate(rows)]
        result = await asyncio.to_thread(_find, loaded, indexed, view, query, filters, parts, tuple(mine.values()))
    if query.parsed.problem:
        result.problem = f"{labels.capital(query.parsed.problem)}."
    if lost:
        result.problem = "A picture that you searched with is no longer there, so it was left out."
    return query, result, chips


def _browse(indexed: IndexedFolder, view: FolderView, query: FolderQuery, filters: SearchFilter) -> FolderResult:
    """The newest images."""
    places = view.matching(filters)
    views = [_view(indexed, view, place, None, query) for place in places[: query.shown].tolist()]
    return FolderResult(views, len(places), len(places) > query.shown)


def _find(
    loaded: LoadedModel,
    indexed: IndexedFolder,
    view: FolderView,
    query: FolderQuery,
    filters: SearchFilter,
    parts: Sequence[QueryPart],
    mine: Sequence[QueryImage],
) -> FolderResult:
    """The images that match best; runs in a thread of its own."""
    try:
        row = compose_query(parts)
    except InputError:
        return FolderResult(problem="The parts of this query cancel out; change one of them.")
    places = [place for each in query.likes if (place := view.place(each)) is not None]
    itself = [view.snapshot.state.sha256[place] for place in places]
    tags = [tag for some in (*map(view.tags, places), *(image.tags for image in mine)) for tag in some or ()]
    count = query.shown + 1
    hits = indexed.index.search(row, count, filters, itself)
    only_words = not query.likes and not mine and not query.without
    foreign = loaded.languages.check(query.words) if query.words else None
    matches = True
    if only_words and not foreign and hits and (match := indexed.search.query):
        matches = _is_answerable(hits, match)
    if not matches:
        hits = hits[:MAX_CLOSEST]
    confidences = _confidences(indexed, query, hits, foreign, any(image.unlike for image in mine), only_words)
    views = []
    for hit, confidence in zip(hits[: query.shown], confidences, strict=False):
        if (place := view.snapshot.places.get(hit.path)) is not None:  # the index may have changed just now
            views.append(_view(indexed, view, place, confidence, query, len(hit.copies), tags))
    return FolderResult(views, view.count(filters), len(hits) > query.shown, matches, foreign)


def _is_answerable(hits: Sequence[FolderHit], match: QueryMatch) -> bool:
    """As ``QueryMatch.is_answerable``, from the hits, of which each stands for its copies, too."""
    scores = [hit.score for hit in hits for _ in range(1 + len(hit.copies))]
    return scores[min(match.rank, len(scores)) - 1] > match.minimum


def _confidences(
    indexed: IndexedFolder,
    query: FolderQuery,
    hits: Sequence[FolderHit],
    foreign: ForeignQuery | None,
    unlike: bool,
    only_words: bool,
) -> list[Confidence | None]:
    if foreign or unlike:
        return [FOREIGN if foreign else UNLIKE] * len(hits)
    scored = [SearchHit(_NO_SAMPLE, hit.score) for hit in hits]
    if only_words:
        return indexed.search.of_text(scored)
    if not query.text and len(query.likes) + len(query.images) == 1:
        return indexed.search.of_image(scored)
    return [None] * len(hits)  # of a query of several parts it is not measured


_NO_SAMPLE = Sample("", "")


def _view(
    indexed: IndexedFolder,
    view: FolderView,
    place: int,
    confidence: Confidence | None,
    query: FolderQuery,
    num_copies: int = 0,
    query_tags: Sequence[Tag] = (),
) -> ImageView:
    image = view.image(place, num_copies)
    sample = indexed.captions.samples.get(view.snapshot.state.sha256[place])
    num_images = len(query.likes) + len(query.images)
    add = query.url(like=(*query.likes, image.id)) if not query.is_empty and num_images < MAX_IMAGES else ""
    like = query.url(q="", like=image.id, image=())
    tags = view.tags(place)
    shared = reasons(tags, query.words, query_tags)
    return ImageView(image, sample.caption if sample else "", confidence, like, add, tags, shared)


def _explanation(indexed: IndexedFolder, query: FolderQuery) -> str:
    search = indexed.search
    if query.words and not search.text and search.query and search.query.likely is not None:
        return (
            "These pictures have no captions to measure with, so your words are compared with random words. “Likely”: "
            "only 1 of 100 random queries finds a picture that fits as well; “possible”: fewer than 10 do."
        )
    calibrator = search.text if query.words else search.image
    return explain(calibrator, "names of things", "an answer is right when it shows the thing named.")


def _without(ids: tuple[str, ...], removed: str) -> tuple[str, ...]:
    return tuple(each for each in ids if each != removed)


def _heading(query: FolderQuery, result: FolderResult) -> str:
    if query.is_empty:
        return "Newest pictures" if result.views else "No pictures"
    images = len(query.likes) + len(query.images)
    like = "" if not images else "this picture" if images == 1 else f"these {images} pictures"
    words = f"“{query.text}”" if query.words else ""
    if like:
        return f"Like {like}" + (f", and {words}" if words else "")
    return words if result.views else f"No pictures for {words}"


def _summary(query: FolderQuery, result: FolderResult) -> str:
    shown, among = len(result.views), labels.num_images(result.total)
    if query.is_empty:
        return f"{shown:,} of {among}" if shown < result.total else among
    if not shown:
        return f"{among} to choose from"
    if not result.matches:
        return f"the {shown:,} closest of {among}"
    return f"the {shown:,} best of {among}" if shown < result.total else among
