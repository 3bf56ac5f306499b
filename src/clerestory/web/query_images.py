"""Images that a visitor searches with: in memory only, under an unguessable id, the latest ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.tags import Tag
from clerestory.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class QueryImage:
    """An uploaded image as a query.

    Attributes:
        id: unguessable.
        file: its file name.
        preview: a small WEBP image.
        embedding: a unit row (D).
        model: the digest of the model that embedded it.
        unlike: whether it is unlike the images that the model was trained on.
        tags: of a photograph.
    """

    id: str
    file: str
    preview: bytes
    embedding: NDArray[np.float32]
    model: str
    unlike: bool
    tags: tuple[Tag, ...] = ()


class QueryImages:
    """The latest ``capacity`` query images; nothing is written to the disk."""

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self._images: OrderedDict[str, QueryImage] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, image: QueryImage) -> None:
        """Add an image; beyond the capacity the least recently used is forgotten."""
        with self._lock:
            self._images[image.id] = image
            while len(self._images) > self.capacity:
                self._images.popitem(last=False)

    def model_of(self, image_id: str) -> str:
        """The digest of the model that embedded an image; empty if the image is forgotten."""
        with self._lock:
            image = self._images.get(image_id)
            return image.model if image is not None else ""

    def get(self, image_id: str, model: str = "") -> QueryImage:
        """The image with this id, for searching with a model.

        Raises:
            NotFound: it has been forgotten, or another model embedded it.
        """
        with self._lock:
            image = self._images.get(image_id)
            if image is None or model not in {"", image.model}:
                raise NotFound("this picture is no longer in memory", "choose it again on the search page")
            self._images.move_to_end(image_id)
            return image
