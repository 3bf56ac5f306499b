"""``POST /v1/search``: the images of the served index that match a text or an image best."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clerestory.apps.confidence import FOREIGN, NO_MATCH, NOT_MEASURED, UNLIKE, Confidence
from clerestory.apps.folder_index import QueryPart, SearchFilter, compose_query
from clerestory.apps.folder_index.query import WITHOUT_WEIGHT, parse_query
from clerestory.apps.search import SearchHit
from clerestory.core.sample import Sample
from clerestory.data.images import decode_beside_requests
from clerestory.store import Store
from clerestory.store.operations.prediction import RequestKind
from clerestory.web.answering import ModelRequest, count_tokens, model_request
from clerestory.web.embedding_request import MAX_TEXT_CHARACTERS, check_model, embedder_of
from clerestory.web.folder_library import IndexedFolder
from clerestory.web.input_values import (
    check_parameters,
    image,
    integer,
    is_data_uri,
    text,
    text_list,
    text_or_image,
)
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState
from clerestory.web.views import image_url, release_header

MAX_HITS = 240
DEFAULT_HITS = 10
MAX_WITHOUT = 16
PARAMETERS = ("query", "image", "without", "k", "model", "user")
_NO_SAMPLE = Sample("", "")


@dataclass(frozen=True, slots=True)
class ApiSearchRequest:
    """A validated search: words to find and to avoid, an image, or both."""

    words: str
    without: tuple[str, ...]
    image: bytes | None
    k: int
    user: str

    @property
    def texts(self) -> list[str]:
        """The texts to embed."""
        return [text for text in (self.words, *self.without) if text]


async def search(request: Request) -> Response:
    """Search the served dataset or folder."""

    def parse(body: dict[str, Any], loaded: LoadedModel) -> ApiSearchRequest:
        return parse_search_request(body, request.app.state.server, loaded)

    async with model_request(request, RequestKind.SEARCH, "query", parse) as (asked, wanted):
        images = [wanted.image] if wanted.image is not None else []
        asked.occupy(wanted.texts, images)
        embedder = embedder_of(asked.loaded)
        inputs: list[str | bytes] = [*images, *wanted.texts]
        rows = await asked.server.batcher.embed(embedder, inputs, embedder.dims[-1], asked.place)
        asked.trace.embeddings = rows
        unlike = await asked.in_model_thread(_is_unlike, asked.loaded, wanted.image)
        body = await asyncio.to_thread(_body, asked, wanted, rows, unlike)
    return JSONResponse(body, headers=release_header(asked.loaded.ref))


def parse_search_request(body: Mapping[str, Any], server: ServerState, loaded: LoadedModel) -> ApiSearchRequest:
    """The request in a JSON object; not for the event loop.

    Raises:
        RequestRejected: 400, 404 or 413.
    """
    check_parameters(body, PARAMETERS)
    _check_searchable(server, loaded, server.store, body.get("model"))
    query, words = body.get("query"), ""
    avoided: tuple[str, ...] = ()
    content: bytes | None = None
    if isinstance(query, str) and is_data_uri(query):
        read = text_or_image(query, "query")
        assert isinstance(read, bytes)
        content = read
    else:
        parsed = parse_query(text(query, "query", MAX_TEXT_CHARACTERS))
        words, avoided = parsed.words, parsed.without
        if parsed.problem:
            raise RequestRejected(parsed.problem, "shorten it", 413, "too_large", code="text_too_long", param="query")
    if body.get("image") is not None:
        if content is not None:
            problem = "query and image are both images"
            raise RequestRejected(problem, "send one of them", code="invalid_value", param="image")
        content = image(body["image"], "image")
    if body.get("without") is not None:
        avoided = (*avoided, *text_list(body["without"], "without", 0, MAX_WITHOUT, 300))
    if not words and content is None:
        raise RequestRejected(
            "there is nothing to look for",
            "send words in query, or an image; words after a minus only say what to leave out",
            code="missing_parameter",
            param="query",
        )
    k = integer(body.get("k"), "k", 1, MAX_HITS, DEFAULT_HITS)
    return ApiSearchRequest(words, avoided, content, k, text(body.get("user"), "user", 1_000))


def _check_searchable(server: ServerState, loaded: LoadedModel, store: Store, model: object) -> None:
    check_model(model, store, loaded)
    embedder_of(loaded)
    if loaded.searcher is None and server.library is None:
        raise RequestRejected(
            "the server was started without images to search",
            "start it with --data",
            code="nothing_to_search",
        )
    if (
        server.library is not None
        and loaded is not server.follower.current
        and not len(server.library.of(loaded).index)
    ):
        raise RequestRejected(
            f"the folder is not indexed for {loaded.ref}",
            f"use {server.follower.served or 'the live release'}, or omit model",
            code="nothing_to_search",
            param="model",
        )


def _is_unlike(loaded: LoadedModel, content: bytes | None) -> bool:
    """Whether an image is unlike those that the model was trained on; runs in the model's thread."""
    reference = loaded.reference.images
    if content is None or reference is None:
        return False
    return bool(reference.unlike([decode_beside_requests(content)])[0])


def _query_row(wanted: ApiSearchRequest, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    first = (wanted.image is not None) + bool(wanted.words)
    parts = [QueryPart(row, 1.0 if i < first else -WITHOUT_WEIGHT) for i, row in enumerate(rows)]
    return compose_query(parts)


def _body(asked: ModelRequest, wanted: ApiSearchRequest, rows: NDArray[np.float32], unlike: bool) -> dict[str, Any]:
    loaded, row = asked.loaded, _query_row(wanted, rows)
    foreign = loaded.languages.check(wanted.words) if wanted.words else None
    doubt = FOREIGN if foreign else UNLIKE if unlike else None
    if asked.server.library is not None:
        hits = _folder_hits(asked.server.library.of(loaded), wanted, row, doubt)
    else:
        hits = _dataset_hits(loaded, wanted, row, rows, doubt)
    tokens = count_tokens(loaded, wanted.texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "images": int(wanted.image is not None)}
    body = {
        "id": asked.trace.response,
        "object": "list",
        "data": [{"object": "search_result", "index": i, **hit} for i, hit in enumerate(hits)],
        "model": loaded.ref,
        "query": {"words": wanted.words, "without": list(wanted.without), "image": wanted.image is not None},
        "usage": usage,
    }
    return body | ({"warnings": [{"index": 0, "message": foreign.sentence}]} if foreign else {})


def _is_simple(wanted: ApiSearchRequest) -> bool:
    """Whether it has one part only: for others the confidence is not measured."""
    return not wanted.without and bool(wanted.words) != (wanted.image is not None)


def _dataset_hits(
    loaded: LoadedModel,
    wanted: ApiSearchRequest,
    row: NDArray[np.float32],
    rows: NDArray[np.float32],
    doubt: Confidence | None,
) -> list[dict[str, Any]]:
    assert loaded.searcher is not None
    hits = loaded.searcher.nearest(row, wanted.k)
    match = loaded.search.query
    if _is_simple(wanted) and wanted.words and doubt is None and match:
        doubt = None if match.is_answerable(loaded.searcher.index, rows[0]) else NO_MATCH
    confidences = _confidences(wanted, hits, doubt, loaded.search)
    return [
        {
            "id": hit.sample.id,
            "score": round(hit.score, 6),
            "confidence": confidence.label if confidence else NOT_MEASURED,
            "caption": hit.sample.caption,
            "url": image_url(hit.sample.id, hit.sample.image),
        }
        for hit, confidence in zip(hits, confidences, strict=True)
    ]


def _folder_hits(
    indexed: IndexedFolder, wanted: ApiSearchRequest, row: NDArray[np.float32], doubt: Confidence | None
) -> list[dict[str, Any]]:
    view = indexed.view
    hits = indexed.index.search(row, wanted.k, SearchFilter(), [])
    scored = [SearchHit(_NO_SAMPLE, hit.score) for hit in hits]
    confidences = _confidences(wanted, scored, doubt, indexed.search)
    found = []
    for hit, confidence in zip(hits, confidences, strict=True):
        if (place := view.snapshot.places.get(hit.path)) is None:  # the index may have changed just now
            continue
        shown = view.image(place, len(hit.copies))
        sample = indexed.captions.samples.get(view.snapshot.state.sha256[place])
        found.append(
            {
                "id": hit.path,
                "score": round(hit.score, 6),
                "confidence": confidence.label if confidence else NOT_MEASURED,
                "caption": sample.caption if sample else "",
                "url": f"/folder/images/{shown.id}/small",
            }
        )
    return found


def _confidences(
    wanted: ApiSearchRequest, hits: Sequence[SearchHit], doubt: Confidence | None, search: Any
) -> list[Confidence | None]:
    if doubt:
        return [doubt] * len(hits)
    if not _is_simple(wanted):
        return [None] * len(hits)
    found: list[Confidence | None] = search.of_text(hits) if wanted.words else search.of_image(hits)
    return found
