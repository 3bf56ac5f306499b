"""What a head needs of the encoder that it is fitted on: the photo encoder, or any Hugging Face dual encoder.

Shape suffixes: N images, M captions, F features, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from clerestory.core.errors import CapabilityError
from clerestory.models.adapters.headed import centred, save_headed
from clerestory.models.adapters.hf_dual import DualEncoder
from clerestory.models.photo.caption_decoder import TrainedDecoder
from clerestory.models.photo.encoder import PhotoEncoder, save_with_own_head
from clerestory.models.photo.learned_tags import LearnedTags
from clerestory.models.photo.space import Floats, LinearHead
from clerestory.models.protocols import AnyModel, Matrix
from clerestory.stages.train.tune.head.fit import HeadData, Ints
from clerestory.stages.train.tune.saving import source_folder


class WithoutHead(NamedTuple):
    """Embeddings as they are without a head: of the images ``(N, D)`` and the captions ``(M, D)``."""

    images: Floats
    captions: Floats


class OwnParts(NamedTuple):
    """What was fitted on the user's captions: a head, and of photographs perhaps tags and a caption decoder."""

    head: LinearHead
    tags: LearnedTags | None = None
    drafts: TrainedDecoder | None = None


class HeadEncoder(Protocol):
    """An encoder that a head can be fitted on.

    Attributes:
        features_key: what the features of an image depend on, besides the image and the code.
        reads_photographs: whether it is for photographs, which have tags and can have caption drafts.
    """

    features_key: str
    reads_photographs: bool

    @property
    def model(self) -> AnyModel:
        """The encoder."""

    def features(self, images: Sequence[Image.Image]) -> Floats:
        """Features of images ``(N, F)``."""

    def prepare(
        self, features_NF: Floats, captions: Sequence[str], owner_M: Ints, groups_N: Ints
    ) -> tuple[HeadData, WithoutHead]:
        """What the head is fitted on, and what it is compared with."""

    def embed_texts(self, texts: Sequence[str]) -> Matrix:
        """Embeddings of texts, as the model with the head makes them."""

    def save(self, fitted: OwnParts, trained_on: str, base: str, folder: Path) -> None:
        """Write the model with what was fitted."""


class PhotoHeadEncoder:
    """``photos``, or the same with a head, which is then replaced."""

    reads_photographs = True

    def __init__(self, model: PhotoEncoder) -> None:
        self.model = model
        self.features_key = str(model.settings["variant"])

    def features(self, images: Sequence[Image.Image]) -> Floats:
        """Features of images ``(N, F)``."""
        return self.model.features(images).features

    def prepare(
        self, features_NF: Floats, captions: Sequence[str], owner_M: Ints, groups_N: Ints
    ) -> tuple[HeadData, WithoutHead]:
        """What the head is fitted on, and what it is compared with."""
        space = self.model.space.without_own_head()
        rows_ME = self.model.text_tower.embed(captions)
        images_ND = space.embed_features(features_NF, self.model.logits(features_NF))[:, 1:]
        texts_MD = space.embed_texts(rows_ME)[:, 1:]
        data = HeadData(features_NF, images_ND, space.directions(rows_ME), texts_MD, owner_M, groups_N)
        return data, WithoutHead(images_ND, texts_MD)

    def embed_texts(self, texts: Sequence[str]) -> Matrix:
        """Embeddings of texts, as the model with the head makes them."""
        return self.model.embed_texts(texts)

    def save(self, fitted: OwnParts, trained_on: str, base: str, folder: Path) -> None:
        """Write the model with what was fitted."""
        save_with_own_head(self.model, fitted.head, trained_on, base, folder, fitted.tags, fitted.drafts)


class DualHeadEncoder:
    """A Hugging Face dual encoder; the features are its image embeddings.

    Both sides are centred on the means of all images and captions, those of a left-out fold too: two vectors that
    depend on no single caption.
    """

    reads_photographs = False

    def __init__(self, model: DualEncoder) -> None:
        self.model, self.features_key = model, model.digest
        self._means: tuple[Floats, Floats] = (np.zeros(1), np.zeros(1))

    def features(self, images: Sequence[Image.Image]) -> Floats:
        """Features of images ``(N, F)``."""
        return self.model.embed_images(images)

    def prepare(
        self, features_NF: Floats, captions: Sequence[str], owner_M: Ints, groups_N: Ints
    ) -> tuple[HeadData, WithoutHead]:
        """What the head is fitted on, and what it is compared with."""
        captions_MD = self.model.embed_texts(captions)
        self._means = features_NF.mean(axis=0), captions_MD.mean(axis=0)
        images_ND, texts_MD = centred(features_NF, self._means[0]), centred(captions_MD, self._means[1])
        data = HeadData(features_NF, images_ND, texts_MD, texts_MD, owner_M, groups_N)
        return data, WithoutHead(features_NF, captions_MD)

    def embed_texts(self, texts: Sequence[str]) -> Matrix:
        """Embeddings of texts, without the centring that the head adds."""
        return self.model.embed_texts(texts)

    def save(self, fitted: OwnParts, trained_on: str, base: str, folder: Path) -> None:
        """Write the model with a head."""
        save_headed(source_folder(self.model), *self._means, fitted.head, trained_on, base or self.model.name, folder)


def head_encoder(model: AnyModel) -> HeadEncoder:
    """The interface of a model that a head can be fitted on.

    Raises:
        CapabilityError: a model of another kind.
    """
    if isinstance(model, PhotoEncoder):
        return PhotoHeadEncoder(model)
    if isinstance(model, DualEncoder):
        return DualHeadEncoder(model)
    raise CapabilityError(
        "a head can be fitted on photos and on Hugging Face dual encoders, and this model is neither",
        "use photos, or hf:org/name of a dual encoder such as CLIP or SigLIP 2; or --method full",
    )
