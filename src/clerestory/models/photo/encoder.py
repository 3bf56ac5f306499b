"""The photo encoder: an ``Embedder`` and a ``Scorer`` for photographs, without training on the user's own.

Shape suffixes: N photographs or texts, F features, K classes, D width of an embedding, C channels, H and W pixels.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from clerestory.core.codec import Fact
from clerestory.core.digest import digest_folder
from clerestory.core.errors import IntegrityError
from clerestory.models.clip_scorer import NO_IMAGE, score_by_similarity
from clerestory.models.folder_check import CONFIG, DOWNLOAD_AGAIN, PHOTO_TYPE, check_folder, display_name
from clerestory.models.languages import MODEL_CARD
from clerestory.models.loading import load_tensors, load_weights
from clerestory.models.photo.efficientnet import NUM_FEATURES, VARIANTS, EfficientNetLite
from clerestory.models.photo.learned_tags import LearnedTags
from clerestory.models.photo.photo_pixels import SHORT_SIDE, photo_pixels
from clerestory.models.photo.space import Floats, LinearHead, PhotoSpace, join_features, unit_rows
from clerestory.models.protocols import Matrix, Scores, unknown_dim
from clerestory.models.text_tower import TextTower, load_text_tower
from clerestory.models.text_tower_files import LANGUAGES

if TYPE_CHECKING:
    from clerestory.models.photo.caption_decoder import TrainedDecoder

WEIGHTS = "model.safetensors"
NETWORK, SPACE, TAGS, DECODER = "network.", "space.", "tags.", "decoder."
TAG_NAMES, CAPTION_WORDS = "own_tags", "caption_words"  # in the settings
# Of the process when this module was imported: a thread's own setting becomes that of the threads begun after it.
THREADS = torch.get_num_threads()
NOT_KEPT = ("model_type", "architectures", TAG_NAMES, CAPTION_WORDS)  # settings that a new head has of its own
OWN_HEAD_HEADING = "## Own head"  # in the model card


class PhotoFeatures(NamedTuple):
    """What the network knows about N photographs: the features of the heads ``(N, F)`` and class logits ``(N, K)``."""

    features: Floats
    logits: Floats

    def take(self, rows: Sequence[int]) -> PhotoFeatures:
        """Those of some photographs."""
        return PhotoFeatures(self.features[list(rows)], self.logits[list(rows)])


class PhotoEncoder:
    """The encoder of a model folder; thread-safe. The network is read when the first photograph is embedded.

    Args:
        folder: with weights.
        space: the space that photographs and texts share.
        settings: of its ``config.json``.
        digest: SHA-256 of the folder.

    Attributes:
        dims: widths of the prefixes of an embedding that are embeddings too.
        logit_scale: factor of the similarities before a softmax.
    """

    order_matters = False
    languages = LANGUAGES

    def __init__(self, folder: Path, space: PhotoSpace, settings: dict[str, object], digest: str) -> None:
        self.folder, self.space, self.settings, self.digest = folder, space, settings, digest
        self.dims: tuple[int, ...] = tuple(settings["dims"])  # type: ignore[arg-type]  # checked by open_photo_encoder
        self.logit_scale = float(settings["logit_scale"])  # type: ignore[arg-type]  # as above
        self._lock = threading.Lock()

    @cached_property
    def text_tower(self) -> TextTower:
        """The text tower."""
        return load_text_tower(str(self.settings["text_tower_digest"]))

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words that the tokenizer of its text tower does not split."""
        return self.text_tower.vocabulary

    @cached_property
    def network(self) -> EfficientNetLite:
        """The network, read when it is first needed."""
        network = EfficientNetLite(VARIANTS[str(self.settings["variant"])])
        names = {NETWORK + name: name for name in network.state_dict()}
        loaded = load_weights(network, self.folder, (SPACE, TAGS, DECODER), names)
        return loaded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # untyped

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32; the row of a photograph does not depend on the others."""
        width = self._width(dim)
        return self.embed_features(self.features(images), width) if images else np.zeros((0, width), np.float32)

    def embed_features(self, found: PhotoFeatures, dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32 of the features of at least one photograph."""
        # One by one, as the bits of a matrix product depend on the number of rows.
        rows = [self.space.embed_features(*(part[i : i + 1] for part in found)) for i in range(len(found.logits))]
        return _prefix(np.concatenate(rows), self._width(dim))

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        width = self._width(dim)
        if not texts:
            return np.zeros((0, width), np.float32)
        with self._lock:  # fast tokenizers have state
            rows_NE = self.text_tower.embed(texts)
        return _prefix(self.space.embed_texts(rows_NE), width)

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options, by similarity; see ``models.clip_scorer``."""
        return score_by_similarity(self, self.logit_scale, images, questions, options)

    def features(self, images: Sequence[Image.Image]) -> PhotoFeatures:
        """The features of photographs, before they are mapped into the space."""
        with self._lock:
            network = self.network
        return photo_features(network, images)

    @torch.inference_mode()
    def logits(self, features_NF: Floats) -> Floats:
        """The class logits ``(N, K)`` of features as ``features`` returns them."""
        with self._lock:
            network = self.network
        last_NF = np.square(features_NF[:, :NUM_FEATURES].astype(np.float32))
        logits_NK: Floats = network.logits(torch.from_numpy(last_NF)).numpy()
        return logits_NK

    @cached_property
    def own_tags(self) -> LearnedTags | None:
        """The words that were learned from the user's own captions, if any.

        Raises:
            IntegrityError: they do not fit the network.
        """
        if not (names := self.settings.get(TAG_NAMES)):
            return None
        tensors, _ = load_tensors(self.folder / WEIGHTS, TAGS)
        try:
            arrays = {name.removeprefix(TAGS): tensor.double().numpy() for name, tensor in tensors.items()}
            tags = LearnedTags.from_tensors(names, arrays)  # type: ignore[arg-type]  # checked there
            if len(tags.weight) == len(self.space.general.mean):
                return tags
        except (KeyError, TypeError, ValueError):
            pass
        raise IntegrityError(f"the tags of {display_name(self.folder)} do not fit its network", DOWNLOAD_AGAIN)

    def facts(self) -> dict[str, Fact]:
        """Network, parameters, image size, embedding widths, training data, own head, text tower and its languages."""
        variant = VARIANTS[str(self.settings["variant"])]
        parameters = sum(p.numel() for p in EfficientNetLite(variant).parameters())
        return {
            "kind": "photo encoder",
            "network": f"EfficientNet-{str(self.settings['variant']).capitalize()}",
            "parameters": parameters + sum(array.size for array in self.space.tensors().values()),
            "image_size": SHORT_SIDE,
            "dims": self.dims,
            "logit_scale": self.logit_scale,
            "no_image": NO_IMAGE,
            "text_tower": str(self.settings["text_tower_digest"]),
            "languages": self.languages,
            "own_head": self.space.own is not None,
            "own_tags": len(self.own_tags.names) if self.own_tags else 0,
        }

    def _width(self, dim: int | None) -> int:
        if dim is None:
            return self.dims[-1]
        if dim not in self.dims:
            raise unknown_dim(dim, self.dims)
        return dim


def open_photo_encoder(folder: Path) -> PhotoEncoder:
    """Open a model folder.

    Raises:
        NotFound: the folder does not exist.
        IntegrityError: one of its files is missing or broken, or the files do not belong together.
        CapabilityError: as ``check_folder``.
    """
    settings = check_folder(folder)
    tensors, _ = load_tensors(folder / WEIGHTS, SPACE)
    try:
        space = PhotoSpace.from_tensors({n.removeprefix(SPACE): t.float().numpy() for n, t in tensors.items()})
        fits = settings["variant"] in VARIANTS and float(settings["logit_scale"]) > 0
        fits = fits and space.width == settings["dims"][-1]
    except (KeyError, TypeError, ValueError, IndexError):
        fits = False
    if not fits:
        raise IntegrityError(f"the weights of {display_name(folder)} do not fit its {CONFIG}", DOWNLOAD_AGAIN)
    kind = PhotoEncoder
    if CAPTION_WORDS in settings:
        from clerestory.models.photo.captioner import PhotoCaptioner  # here, because it imports this module

        kind = PhotoCaptioner
    return kind(folder, space, settings, digest_folder(folder)[0])


def save_photo_encoder(
    network: Mapping[str, Tensor],
    space: PhotoSpace,
    settings: Mapping[str, object],
    card: str,
    folder: Path,
    tags: LearnedTags | None = None,
    drafts: TrainedDecoder | None = None,
) -> None:
    """Write a model folder; equal arguments give equal bytes.

    Args:
        network: the weights of its ``EfficientNetLite``.
        space: the space.
        settings: ``variant``, ``text_tower_digest``, ``logit_scale``, ``dims``.
        card: its model card.
        folder: exists and is empty.
        tags: words that were learned from the user's own captions.
        drafts: a decoder that was trained on them.
    """
    tensors = {NETWORK + name: tensor.contiguous() for name, tensor in network.items()}
    arrays = {SPACE + name: array for name, array in space.tensors().items()}
    if tags is not None:
        arrays |= {TAGS + name: array for name, array in tags.tensors().items()}
        settings = {**settings, TAG_NAMES: list(tags.names)}
    tensors |= {name: torch.from_numpy(np.ascontiguousarray(array, np.float32)) for name, array in arrays.items()}
    if drafts is not None:
        tensors |= {DECODER + name: tensor.contiguous() for name, tensor in drafts.decoder.state_dict().items()}
        settings = {**settings, CAPTION_WORDS: drafts.words.to_settings()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = {"model_type": PHOTO_TYPE, "architectures": ["PhotoEncoder"], **settings}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / MODEL_CARD).write_text(card, encoding="utf-8")


def save_with_own_head(
    model: PhotoEncoder,
    head: LinearHead,
    trained_on: str,
    base: str,
    folder: Path,
    tags: LearnedTags | None = None,
    drafts: TrainedDecoder | None = None,
) -> None:
    """Write the folder of a model with what was fitted on the user's own captions; the rest of the model remains.

    Args:
        model: the encoder; a head, tags and a decoder that it already has are replaced.
        head: the head.
        trained_on: what the head was fitted on, for the model card.
        base: the reference of the model.
        folder: exists and is empty.
        tags: the words that were learned together with it; None for none.
        drafts: the decoder that was trained together with it; None for none.
    """
    tensors, _ = load_tensors(model.folder / WEIGHTS, NETWORK)
    network = {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items()}
    settings = {name: value for name, value in model.settings.items() if name not in NOT_KEPT}
    card = (model.folder / MODEL_CARD).read_text(encoding="utf-8").split(OWN_HEAD_HEADING)[0].rstrip()
    card += f"\n\n{OWN_HEAD_HEADING}\n\nThe model {base or model.digest[:12]} with {trained_on}.\n"
    save_photo_encoder(network, model.space.with_own_head(head), settings, card, folder, tags, drafts)


def photo_features(network: EfficientNetLite, images: Sequence[Image.Image]) -> PhotoFeatures:
    """The features of photographs.

    Each image is computed by a thread of its own: that is faster than all threads for each in turn, and makes the
    result independent of the other images and of the number of processors.
    """
    with ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        rows = list(pool.map(lambda image: _features(network, image), images))
    torch.set_num_threads(THREADS)
    last_NF, levels_NF, logits_NK = (np.concatenate(part) for part in zip(*rows, strict=True))
    return PhotoFeatures(join_features(last_NF, levels_NF), logits_NK)


@torch.inference_mode()
def _features(network: EfficientNetLite, image: Image.Image) -> tuple[NDArray[np.float32], ...]:
    """The last features, those of the levels below and the class logits, one row each."""
    last_1F, levels_1F = network.features(torch.from_numpy(photo_pixels(image)))
    return last_1F.numpy(), levels_1F.numpy(), network.logits(last_1F).numpy()


def _prefix(rows_ND: Matrix, width: int) -> Matrix:
    return rows_ND if width == rows_ND.shape[1] else unit_rows(rows_ND[:, :width]).astype(np.float32)
