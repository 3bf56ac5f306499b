"""What every page and address of one server works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from clerestory.core.sample import Dataset
from clerestory.store import Store
from clerestory.web.inference_queue import Work
from clerestory.web.model_follower import Live
from clerestory.web.pictures import Thumbnails
from clerestory.web.reviews import Reviews


@dataclass(slots=True)
class Site:
    """The parts of one server; reached as ``request.app.state.site``.

    Attributes:
        store: releases, models, evidence.
        data: the pictures to search, or None.
        name: the line of models that is served.
        live: the served release.
        work: the queue before the model.
        reviews: captions under review.
        thumbnails: small copies of large pictures.
    """

    store: Store
    data: Dataset | None
    name: str
    live: Live
    work: Work = field(default_factory=Work)
    reviews: Reviews = field(default_factory=Reviews)
    thumbnails: Thumbnails = field(default_factory=Thumbnails)


def site(request: Request) -> Site:
    """The server's parts."""
    found = request.app.state.site
    assert isinstance(found, Site)
    return found
