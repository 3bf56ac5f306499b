"""Descriptions of image files: captions of drawings, tags of photographs, each from the model that knows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clerestory.apps.captioning import for_each_file
from clerestory.apps.loading import is_external
from clerestory.apps.right_model import (
    DRAWING,
    NEITHER,
    OTHER,
    PHOTOGRAPH,
    PLURALS,
    ImageKinds,
    included_photos,
    is_for_drawings,
    photo_encoder,
)
from clerestory.apps.tags import Tag, photograph_tags
from clerestory.core.errors import IntegrityError, NotFound, NotWritable
from clerestory.core.units import plural
from clerestory.models.protocols import CaptionCandidate
from clerestory.models.starter import PHOTOS, STARTER
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image

    from clerestory.models.photo.encoder import PhotoEncoder

LOOK = f"look like {PLURALS[OTHER]}"
CAPTIONER = "hf:HuggingFaceTB/SmolVLM-256M-Instruct"
MAX_DRAFTS = 3


@dataclass(frozen=True, slots=True)
class SeenImage:
    """What the photo encoder says about an image.

    Attributes:
        kind: photograph, drawing or other.
        is_confident: whether the kind is certain enough to rely on.
        tags: of a photograph, most probable first; empty means "not sure".
        drafts: captions of a photograph, best first; empty if the encoder cannot draft any.
    """

    kind: str
    is_confident: bool
    tags: tuple[Tag, ...] = ()
    drafts: tuple[CaptionCandidate, ...] = ()

    @property
    def gets_tags(self) -> bool:
        """Whether tags describe it, and not a caption."""
        return self.kind != DRAWING


def look_at_files(
    encoder: PhotoEncoder, files: Sequence[Path], num_drafts: int = MAX_DRAFTS
) -> Iterator[tuple[Path, SeenImage | str]]:
    """Each file with its kind, tags and drafts, or the reason why it cannot be read; one pass through the network."""
    return for_each_file(files, lambda images: look_at_images(encoder, images, num_drafts))


def look_at_images(
    encoder: PhotoEncoder, images: Sequence[Image.Image], num_drafts: int = MAX_DRAFTS
) -> list[SeenImage]:
    """The kind, the tags and the drafts of each image; one pass through the network."""
    if not images:
        return []
    from clerestory.models.photo.captioner import PhotoCaptioner
    from clerestory.models.photo.kinds import kind_probe

    found = encoder.features(images)
    guesses = kind_probe().guess(found.features)
    drafts: list[list[CaptionCandidate]] = [[] for _ in images]
    if isinstance(encoder, PhotoCaptioner):
        rows = [i for i, guess in enumerate(guesses) if guess.kind == PHOTOGRAPH]
        some = encoder.draft_captions(found.take(rows), num_drafts)
        for i, each in zip(rows, some, strict=True):
            drafts[i] = each
    return [
        SeenImage(str(guess.kind), guess.is_confident, tags or (), tuple(own))
        for guess, tags, own in zip(guesses, photograph_tags(encoder, found), drafts, strict=True)
    ]


def tag_encoder(store: Store, model: object, ref: str) -> PhotoEncoder | None:
    """The encoder that tags photographs: the model itself, or the included one beside a model that knows drawings only.

    Returns:
        None where photographs get captions like any other image, or where ``photos`` cannot be opened.
    """
    if (encoder := photo_encoder(model)) is not None:
        return encoder
    try:
        knows_drawings_only = ref == STARTER or (not is_external(ref) and is_for_drawings(store, ref))
        return included_photos() if knows_drawings_only else None
    except (NotFound, IntegrityError, NotWritable):
        return None


def kinds_sentence(seen: Sequence[SeenImage], captioner: str) -> tuple[str, str]:
    """Which images get tags and which get captions, and why: one sentence, and a warning about the others.

    Args:
        seen: the images, some of which get tags.
        captioner: the reference of the model that captions drawings.
    """
    kinds = ImageKinds.of((each.kind, each.is_confident) for each in seen)
    counts = {kind: sum(each.kind == kind for each in seen) for kind in (PHOTOGRAPH, DRAWING, OTHER)}
    notice = warning = ""
    if seen and counts[PHOTOGRAPH] == len(seen):
        what = f"these are {PLURALS[PHOTOGRAPH]}, so they get"
        if len(seen) == 1:
            what = f"this is a {PHOTOGRAPH}, so it gets"
        if kinds.is_unsure:
            what = f"these are probably {PLURALS[PHOTOGRAPH]}, but this is unsure; they get"
        notice = f"{what} tags from the included model {PHOTOS}; for captions use --model {CAPTIONER}"
    elif counts[PHOTOGRAPH]:
        notice = f"{_are(counts[PHOTOGRAPH], PHOTOGRAPH)}, with tags from the included model {PHOTOS}"
        if counts[DRAWING]:
            notice += f"; {_are(counts[DRAWING], DRAWING)}, with captions from {captioner}"
    if counts[OTHER]:
        number = plural(counts[OTHER], "image looks like a screenshot, a chart or a document", "images " + LOOK)
        warning = f"{number}, {NEITHER}"
    return notice, warning


def _are(number: int, kind: str) -> str:
    return plural(number, f"image is a {kind}", f"images are {PLURALS[kind]}")
