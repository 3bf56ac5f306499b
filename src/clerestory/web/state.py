"""The state shared by every page and API endpoint of one server."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from clerestory.core.sample import Dataset
from clerestory.store import Store
from clerestory.web.images import ThumbnailCache
from clerestory.web.inference_queue import InferenceQueue
from clerestory.web.model_follower import ModelFollower
from clerestory.web.reviews import Reviews


@dataclass(slots=True)
class ServerState:
    """The components of one server; stored as ``app.state.server``.

    Attributes:
        store: releases, models, evidence.
        data: the images to search, or None.
        name: the model name whose release is served.
        follower: keeps the served model loaded.
        queue: the queue in front of the model.
        reviews: captions under review.
        thumbnails: small copies of large images.
    """

    store: Store
    data: Dataset | None
    name: str
    follower: ModelFollower
    queue: InferenceQueue = field(default_factory=InferenceQueue)
    reviews: Reviews = field(default_factory=Reviews)
    thumbnails: ThumbnailCache = field(default_factory=ThumbnailCache)


def server_state(request: Request) -> ServerState:
    """The state of the server that received a request."""
    state = request.app.state.server
    assert isinstance(state, ServerState)
    return state
