"""The index of a folder with the tags of its photographs: found when they are embedded, in one pass of the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from clerestory.apps.folder_index import FolderIndex, TaggedRows
from clerestory.apps.right_model import KINDS_FILE, photo_encoder
from clerestory.apps.tags import TAGS_FILE, WORDS_FILE, photograph_tags
from clerestory.core.digest import digest, digest_file
from clerestory.core.provenance import code_digest
from clerestory.models.protocols import Embedder
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image


def open_index(folder: Path | str, store: Store, model: Embedder) -> FolderIndex:
    """The index of a folder for a model; one with tags is another index once their vocabulary has changed.

    Raises:
        DataError: the folder does not exist, or cannot be listed.
    """
    tags_from = _tags_from() if photo_encoder(model) else ""
    return FolderIndex.open(folder, store, model.digest, model.dims, tags_from)


def embed_and_tag(model: Embedder) -> Callable[[Sequence[Image.Image]], TaggedRows]:
    """Images to unit rows with tags, for ``FolderIndex.update``; models other than photo encoders have no tags."""
    encoder = photo_encoder(model)

    def embed(images: Sequence[Image.Image]) -> TaggedRows:
        if encoder is None:
            return TaggedRows(model.embed_images(images), [None] * len(images))
        found = encoder.features(images)
        return TaggedRows(encoder.embed_features(found), photograph_tags(encoder, found))

    return embed


@cache
def _tags_from() -> str:
    """What the included tags depend on, beside the network; words of the user's own are a part of the model."""
    from clerestory.models.photo.folder import resource

    files = [digest_file(resource(name)) for name in (TAGS_FILE, WORDS_FILE, KINDS_FILE)]
    return digest([*files, code_digest("apps/tags")])
