"""The state shared by every page and API endpoint of one server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from starlette.requests import Request

from clerestory.apps.drift_live import LiveDriftMonitor
from clerestory.core.sample import Dataset
from clerestory.stages.serve.inference_queue import InferenceQueue, RunningMean
from clerestory.stages.serve.micro_batcher import MicroBatcher
from clerestory.stages.serve.shadow import ShadowRun
from clerestory.store import Store
from clerestory.web.access_control import AccessControl
from clerestory.web.access_log import AccessLog
from clerestory.web.folder_library import FolderLibrary
from clerestory.web.images import ThumbnailCache
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.metrics import ServerMetrics
from clerestory.web.model_follower import ModelFollower
from clerestory.web.observers import ObserverList
from clerestory.web.query_images import QueryImages
from clerestory.web.report_cache import ReportCache
from clerestory.web.request_body import ByteBudget
from clerestory.web.request_log import RequestLog
from clerestory.web.review_files import ReviewFiles
from clerestory.web.reviews import FolderQueue, Reviews
from clerestory.web.serve_config import ServeConfig

if TYPE_CHECKING:
    from clerestory.models.photo.encoder import PhotoEncoder

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class ServerState:
    """The components of one server; stored as ``app.state.server``.

    Attributes:
        store: releases, models, evidence.
        data: the images to search, or None.
        name: the model name whose release is served.
        follower: keeps the served model loaded.
        config: the settings of the server.
        library: the folder of images to search; None if a dataset is searched, or nothing.
        describing: describes the folder; None without one.
        access: the API keys and what they have spent.
        queue: the queue in front of the model.
        batcher: embeds the inputs of concurrent requests together.
        body_budget: bounds the large request bodies in memory.
        caption_seconds: how long the captions of one image take.
        reviews: captions under review.
        metrics: what is counted for Prometheus.
        route_names: the path of each endpoint, for metrics and logs.
        access_log: one line for each request.
        observers: receive the record of each answered request.
        request_log: the first of them, and what writes feedback.
        shadow: compares a candidate that computes along; None until there is one.
        drift: watches the images that arrive; None if it is off.
        query_images: images that visitors search with.
        thumbnails: small copies of large images.
        reports: the pages of whole reports.
        tag_encoders: the encoder that tags photographs beside a loaded model, or None; decided once.
    """

    store: Store
    data: Dataset | None
    name: str
    follower: ModelFollower
    config: ServeConfig = field(default_factory=ServeConfig)
    library: FolderLibrary | None = None
    describing: FolderQueue | None = None
    drift: LiveDriftMonitor | None = None
    observers: ObserverList = field(default_factory=ObserverList)
    thumbnails: ThumbnailCache = field(default_factory=ThumbnailCache)
    query_images: QueryImages = field(default_factory=QueryImages)
    reports: ReportCache = field(default_factory=ReportCache)
    caption_seconds: RunningMean = field(default_factory=lambda: RunningMean(0.1))
    tag_encoders: WeakKeyDictionary[LoadedModel, PhotoEncoder | None] = field(default_factory=WeakKeyDictionary)
    access: AccessControl = field(init=False)
    queue: InferenceQueue = field(init=False)
    batcher: MicroBatcher = field(init=False)
    body_budget: ByteBudget = field(init=False)
    reviews: Reviews = field(init=False)
    request_log: RequestLog = field(init=False)
    shadow: ShadowRun | None = field(init=False, default=None)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "requests"))
    _image_threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "pictures"))

    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    route_names: dict[object, str] = field(default_factory=dict)
    access_log: AccessLog = field(init=False)

    def __post_init__(self) -> None:
        self.access_log = AccessLog(self.config.log.access)
        self.access = AccessControl(self.config.access, self.store)
        self.queue = InferenceQueue(self.config.queue)
        self.batcher = MicroBatcher(self.queue, self.config.batch)
        self.metrics.watch(self.queue, self.follower)
        self.batcher.on_batch = self.metrics.count_batch
        self.body_budget = ByteBudget(self.config.body.memory_bytes)
        self.reviews = Reviews(ReviewFiles(self.store.files / "reviews"))
        log = self.config.log
        self.request_log = RequestLog(self.store, log.retention_days, log.max_waiting, self.config.feedback)
        self.observers.append(self.request_log)

    async def in_thread(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the work of reading or writing a request in a thread, one job at a time.

        Jobs are short (a slice of a large request), since the others wait. With several threads, Python would give the
        event loop its turn too rarely.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: job(*args, **kwargs))

    async def in_image_thread(self, job: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Read or reduce a image of the folder in one of two threads, so that other requests do not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._image_threads, lambda: job(*args, **kwargs))

    def close(self) -> None:
        """Wait for the running jobs and end the threads."""
        if self.library is not None:
            self.library.close()
        if self.describing is not None:
            self.describing.close()
        self.queue.close()
        self._image_threads.shutdown(wait=True, cancel_futures=True)
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.observers.close()
        self.access_log.close()


def server_state(request: Request) -> ServerState:
    """The state of the server that received a request."""
    state = request.app.state.server
    assert isinstance(state, ServerState)
    return state
