"""The application: its addresses, and what starts and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from clerestory.core.errors import ClerestoryError
from clerestory.core.sample import Dataset
from clerestory.store import Store
from clerestory.web import api, describe, pictures, releases, search
from clerestory.web.model_follower import Elsewhere, Live
from clerestory.web.pictures import A_WHILE, FOR_EVER
from clerestory.web.security import Guard
from clerestory.web.state import Site
from clerestory.web.views import STATIC, on_crash, on_error, on_http_error

LOG = logging.getLogger("clerestory.web")


def create_app(store: Store, data: Dataset | None, name: str = "icons", model: str = "") -> Starlette:
    """The pages and the API of one store, following one line of models.

    The model is loaded when the application starts, off the path of requests: ``/readyz`` tells when it is there, and
    the release pages answer at once.

    Args:
        store: where releases, models and evidence are.
        data: the pictures to search; without them there is no search, all else works.
        name: the line of models whose ``live`` release answers.
        model: a model from elsewhere that answers instead, such as ``hf:org/name``.
    """
    site = Site(store, data, name, Elsewhere(store, data, model) if model else Live(store, data, name))
    app = Starlette(
        routes=_routes(),
        middleware=[Middleware(Guard)],
        exception_handlers={
            ClerestoryError: on_error,
            HTTPException: on_http_error,
            Exception: on_crash,
        },
        lifespan=_lifespan,
    )
    app.state.site = site
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    site: Site = app.state.site
    following = asyncio.create_task(site.live.follow())
    try:
        yield
    finally:
        site.live.draining = True
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(site.work.close)


def _routes() -> list[Route | Mount]:
    return [
        Route("/", search.search, methods=["GET"]),
        Route("/describe", describe.start, methods=["GET"]),
        Route("/describe", describe.upload, methods=["POST"]),
        Route("/describe/examples", describe.examples, methods=["POST"]),
        Route("/describe/{review}", describe.review_page, methods=["GET"]),
        Route("/describe/{review}", describe.review_step, methods=["POST"]),
        Route("/describe/{review}/more", describe.upload, methods=["POST"]),
        Route("/describe/{review}/captions.csv", describe.table, methods=["GET"]),
        Route("/describe/{review}/{number:int}.webp", describe.preview, methods=["GET"]),
        Route("/releases", releases.releases, methods=["GET"]),
        Route("/releases/{name}/{number:int}", releases.release, methods=["GET"]),
        Route("/evidence/{id}.json", releases.evidence_json, methods=["GET"]),
        Route("/evidence/{id}", releases.evidence, methods=["GET"]),
        Route("/pictures/{sample:path}", pictures.picture, methods=["GET"]),
        Route("/v1/embeddings", api.embeddings, methods=["POST"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/healthz", api.health, methods=["GET"]),
        Route("/readyz", api.ready, methods=["GET"]),
        Route("/favicon.ico", _favicon, methods=["GET"]),
        Mount("/static", _Static(directory=STATIC)),
    ]


class _Static(StaticFiles):
    """Files whose address carries their digest may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = FOR_EVER if b"v=" in scope["query_string"] else A_WHILE
        return response


async def _favicon(request: Request) -> Response:
    content = (STATIC / "mark.svg").read_bytes()
    return Response(content, media_type="image/svg+xml", headers={"cache-control": A_WHILE})
