"""The application: routes, middleware, startup and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from pathlib import Path

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from clerestory.apps.drift_live import LiveDriftMonitor
from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder
from clerestory.stages.release.promotion import promote_canary
from clerestory.stages.serve.heartbeat import Heartbeat
from clerestory.stages.serve.rollout_router import RolloutRouter
from clerestory.store import Store
from clerestory.web import (
    api,
    chat,
    classify,
    describe,
    feedback,
    folder_describe,
    folder_duplicates,
    folder_images,
    folder_search,
    image_query,
    images,
    metrics,
    search,
    search_api,
    sign_in,
)
from clerestory.web.access import AccessMiddleware
from clerestory.web.access_log import OFF
from clerestory.web.draining import DrainMiddleware
from clerestory.web.embeddings import EmbeddingsEndpoint
from clerestory.web.folder_library import FolderLibrary
from clerestory.web.images import IMMUTABLE, SHORT_LIVED
from clerestory.web.incident_metrics import IncidentCollector
from clerestory.web.incident_service import IncidentService
from clerestory.web.metrics import DriftCollector
from clerestory.web.model_follower import FixedModel, ModelFollower
from clerestory.web.request_trace import TraceMiddleware
from clerestory.web.security import SecurityMiddleware
from clerestory.web.serve_config import LogConfig, ServeConfig
from clerestory.web.state import ServerState
from clerestory.web.unexpected_errors import UnexpectedErrorMiddleware
from clerestory.web.views import STATIC, on_error, on_http_error, on_unexpected_error


class _NumberConvertor(Convertor[int]):
    """A number in a URL; one of more digits than any number of ours is an unknown URL."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _NumberConvertor())
LOG = logging.getLogger("clerestory.web")
GOVERNANCE, GOVERNED = "clerestory.web.governance", "/governance/{name}/{number:number}"
FEEDBACK_PAGE, TRACE_PAGE = "clerestory.web.feedback_page", "clerestory.web.trace_page"
INCIDENTS = "clerestory.web.incidents"
OPERATIONS, CHANNEL, JOURNAL = (f"clerestory.web.{each}_page" for each in ("operations", "channel", "journal"))
DRIFT, REFERENCE_IMAGE = "clerestory.web.drift", "/drift/reference/{data}/{digest}/{sample:path}"
DATA, RELEASES, EVIDENCE = "clerestory.web.data", "clerestory.web.releases", "clerestory.web.evidence"


def create_app(
    store: Store,
    data: Dataset | None,
    name: str = "icons",
    model: str = "",
    folder: Path | None = None,
    progress: Progress = QUIET,
    config: ServeConfig | None = None,
) -> Starlette:
    """The pages and the API of one store, serving one model.

    The model is loaded in the background when the application starts: ``/readyz`` reports when it is ready, and the
    release pages respond at once.

    Args:
        store: the releases, models and evidence.
        data: the images to search; without them everything works except for search.
        name: the model name whose ``live`` release is served.
        model: the reference of another model to serve instead, such as ``hf:org/name``.
        folder: a folder of images to search instead of a dataset; it is indexed in the background.
        config: the settings; by default, all of them at their defaults, and without an access log.
        progress: shows how far the background work is, besides the pages.
    """
    follower = FixedModel(store, data, model, progress) if model else ModelFollower(store, data, name, progress)
    server = ServerState(store, data, name, follower, config or ServeConfig(log=LogConfig(access=OFF)))
    server.metrics.registry.register(IncidentCollector(store))
    _watch_drift(server)
    app = Starlette(
        routes=_routes(folder is not None),
        middleware=[
            Middleware(TraceMiddleware),
            Middleware(SecurityMiddleware, server.config.access, server.access.accepts_host),
            Middleware(UnexpectedErrorMiddleware),
            Middleware(AccessMiddleware),
            Middleware(DrainMiddleware),
        ],
        exception_handlers={
            ClerestoryError: on_error,
            HTTPException: on_http_error,
            Exception: on_unexpected_error,
        },
        lifespan=_lifespan,
    )
    server.library = FolderLibrary(folder, store, progress) if folder is not None else None
    app.state.server = server
    for route in app.routes:
        if isinstance(route, Route | Mount):
            server.route_names[route.endpoint if isinstance(route, Route) else route.app] = route.path
    if not model:
        follower.router = RolloutRouter(
            store,
            name,
            follower.server_id,
            lambda rollout, why: promote_canary(name, store, rollout.who, f"{rollout.why}; {why}"),
            follower.is_loaded,
        )
        server.observers.append(follower.router)
    return app


def _watch_drift(server: ServerState) -> None:
    """Compare the images that arrive with the reference of the model that answers."""

    def embedder(model: str) -> Embedder | None:
        current = server.follower.current
        return current.embedder if current is not None and current.model.digest == model else None

    if server.config.drift.enabled:
        server.drift = LiveDriftMonitor(server.store, embedder, server.config.drift)
        server.observers.append(server.drift)
        server.metrics.registry.register(DriftCollector(server.drift))


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    server: ServerState = app.state.server
    server.observers.start()
    server.access_log.start()
    heartbeat = Heartbeat(server.store, server.follower.status)
    heartbeat.start()
    watch = IncidentService(server.store, server.config, server.metrics.refused)
    watch.start()
    following = asyncio.create_task(server.follower.follow())
    watching_keys = asyncio.create_task(server.access.follow())
    await asyncio.to_thread(server.reviews.files.remove_untouched)
    preparing = asyncio.create_task(_prepare(server.follower))
    if server.library is not None:
        server.library.start(server.follower, server.queue)
        server.describing = folder_describe.DescribeQueue(server)
        await asyncio.to_thread(server.describing.start)
        await asyncio.to_thread(folder_images.trim_cache, server.store.home / folder_images.THUMBNAILS)
    try:
        yield
    finally:
        server.follower.draining = True
        for task in (following, preparing, watching_keys):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ClerestoryError):  # a visit reports a ClerestoryError
                await task
        await asyncio.to_thread(server.follower.close)
        await asyncio.to_thread(heartbeat.close)
        await asyncio.to_thread(watch.close)
        await asyncio.to_thread(server.close)


async def _prepare(follower: ModelFollower) -> None:
    """Prepare the release pages once the model is loaded, so that the load is not slowed down."""
    await follower.settled.wait()
    releases = await asyncio.to_thread(import_module, RELEASES)
    await asyncio.to_thread(releases.prepare)


def _imported_later(module: str, name: str) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint of a module that imports all of evaluation and reports."""

    async def endpoint(request: Request) -> Response:
        response = await getattr(await asyncio.to_thread(import_module, module), name)(request)
        assert isinstance(response, Response)
        return response

    return endpoint


def _routes(with_folder: bool) -> list[Route | Mount]:
    return [
        Route("/v1/embeddings", EmbeddingsEndpoint(), methods=["POST"]),  # first: the routes are tried in order
        Route("/", folder_search.search_page if with_folder else search.search_page, methods=["GET"]),
        Route("/", image_query.upload, methods=["POST"]),
        Route("/query-images/{image}.webp", image_query.preview, methods=["GET"]),
        Route("/folder/images/{image}/{size}", folder_images.image, methods=["GET"]),
        Route("/duplicates", folder_duplicates.duplicates_page, methods=["GET"]),
        Route("/duplicates.csv", folder_duplicates.duplicates_csv, methods=["GET"]),
        Route("/folder/progress", folder_search.progress, methods=["GET"]),
        Route("/describe", describe.start_page, methods=["GET"]),
        Route("/describe", describe.upload, methods=["POST"]),
        Route("/describe/folder", folder_describe.begin, methods=["POST"]),
        Route("/describe/{review}/progress", folder_describe.progress, methods=["GET"]),
        Route("/describe/examples", describe.examples, methods=["POST"]),
        Route("/describe/{review}", describe.review_page, methods=["GET"]),
        Route("/describe/{review}", describe.review_step, methods=["POST"]),
        Route("/describe/{review}/more", describe.upload, methods=["POST"]),
        Route("/describe/{review}/captions.csv", describe.download, methods=["GET"]),
        Route("/describe/{review}/{number:number}.webp", describe.preview, methods=["GET"]),
        Route("/releases", _imported_later(RELEASES, "releases_page"), methods=["GET"]),
        Route("/releases/{name}/{number:number}", _imported_later(RELEASES, "release_page"), methods=["GET"]),
        Route("/releases/{name}/{number:number}/report", _imported_later(RELEASES, "report_page"), methods=["GET"]),
        Route("/data", _imported_later(DATA, "datasets_page"), methods=["GET"]),
        Route("/data/{name}", _imported_later(DATA, "dataset_findings_page"), methods=["GET"]),
        Route("/data/{name}", _imported_later(DATA, "decide"), methods=["POST"]),
        Route("/data/{name}/audit", _imported_later(DATA, "contact_sheets"), methods=["GET"]),
        Route("/governance", _imported_later(GOVERNANCE, "governance_page"), methods=["GET"]),
        Route(GOVERNED, _imported_later(GOVERNANCE, "release_governance"), methods=["GET"]),
        Route(GOVERNED, _imported_later(GOVERNANCE, "check_again"), methods=["POST"]),
        Route("/incidents", _imported_later(INCIDENTS, "incidents_page"), methods=["GET"]),
        Route("/incidents/{number:number}", _imported_later(INCIDENTS, "incident_page"), methods=["GET"]),
        Route("/incidents/{number:number}", _imported_later(INCIDENTS, "change"), methods=["POST"]),
        Route("/incidents/{number:number}/postmortem.md", _imported_later(INCIDENTS, "postmortem"), methods=["GET"]),
        Route("/drift", _imported_later(DRIFT, "drift_page"), methods=["GET"]),
        Route("/drift/image/{response}", _imported_later(DRIFT, "kept_image"), methods=["GET"]),
        Route(REFERENCE_IMAGE, _imported_later(DRIFT, "reference_image"), methods=["GET"]),
        Route("/drift/{name}", _imported_later(DRIFT, "model_drift_page"), methods=["GET"]),
        Route("/drift/{name}/{alarm}", _imported_later(DRIFT, "alarm_page"), methods=["GET"]),
        Route("/evidence/{id}.json", _imported_later(EVIDENCE, "evidence_json"), methods=["GET"]),
        Route("/evidence/{id}", _imported_later(EVIDENCE, "evidence_page"), methods=["GET"]),
        Route("/feedback", _imported_later(FEEDBACK_PAGE, "feedback_page"), methods=["GET"]),
        Route("/feedback", feedback.say, methods=["POST"]),
        Route("/feedback/received", feedback.received, methods=["GET"]),
        Route("/feedback/corrections", _imported_later(FEEDBACK_PAGE, "decide"), methods=["POST"]),
        Route("/operations", _imported_later(OPERATIONS, "operations_page"), methods=["GET"]),
        Route("/channel/{name}", _imported_later(CHANNEL, "channel_page"), methods=["GET"]),
        Route("/channel/{name}", _imported_later(CHANNEL, "change"), methods=["POST"]),
        Route("/journal", _imported_later(JOURNAL, "journal_page"), methods=["GET"]),
        Route("/journal/{seq:number}", _imported_later(JOURNAL, "record_page"), methods=["GET"]),
        Route("/trace", _imported_later(TRACE_PAGE, "find"), methods=["GET"]),
        Route("/trace/{id:path}", _imported_later(TRACE_PAGE, "trace_page"), methods=["GET"]),
        Route("/images/{sample:path}", images.image, methods=["GET"]),
        Route("/v1/feedback", feedback.feedback, methods=["POST"]),
        Route("/v1/feedback/batch", feedback.feedback_batch, methods=["POST"]),
        Route("/v1/chat/completions", chat.chat_completions, methods=["POST"]),
        Route("/v1/classify", classify.classify, methods=["POST"]),
        Route("/v1/search", search_api.search, methods=["POST"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/v1/models/{model:path}", api.model, methods=["GET"]),
        Route("/openapi.json", api.openapi, methods=["GET"]),
        Route("/sign-in", sign_in.sign_in_page, methods=["GET"]),
        Route("/sign-in", sign_in.sign_in, methods=["POST"]),
        Route("/sign-out", sign_in.sign_out, methods=["POST"]),
        Route("/metrics", metrics.metrics, methods=["GET"]),
        Route("/healthz", api.health, methods=["GET"]),
        Route("/readyz", api.ready, methods=["GET"]),
        Route("/favicon.ico", _favicon, methods=["GET"]),
        Mount("/static", _Static(directory=STATIC)),
    ]


class _Static(StaticFiles):
    """Static files; a URL with a version, the digest of the content, may be cached for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = IMMUTABLE if b"v=" in scope["query_string"] else SHORT_LIVED
        return response


async def _favicon(request: Request) -> Response:
    content = (STATIC / "mark.svg").read_bytes()
    return Response(content, media_type="image/svg+xml", headers={"cache-control": SHORT_LIVED})
