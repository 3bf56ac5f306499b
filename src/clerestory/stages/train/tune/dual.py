"""Contrastive fine-tuning of a dual encoder: both towers, or one with the other's cached embeddings (LiT).

Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text Tuning", arXiv:2111.07991.

Everything runs in evaluation mode: no dropout, and batch normalisation uses its running averages. So the embeddings of
a locked tower are the same in every step, and computing them once is equivalent.

Shape suffixes: B images of a batch, N images of a set, M texts, D width of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clerestory.core.codec import Fact
from clerestory.core.errors import CapabilityError
from clerestory.models.clip_scorer import GREY
from clerestory.models.protocols import Matrix
from clerestory.models.runtime import ClerestoryEncoder
from clerestory.stages.train.losses import matryoshka, sigmoid_loss, softmax_loss
from clerestory.stages.train.tune.cache import EmbeddingCache, uncached_rows
from clerestory.stages.train.tune.caption_pairs import CaptionPairs, Ints
from clerestory.stages.train.tune.config import ModelKind, TuneConfig
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stages.train.tune.weights import SHARED_SCALARS, all_weights, unlocked_weights, used_weights

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, Tower] = ("image", "text")
MAX_LOG_SCALE = math.log(100.0)  # as in CLIP
MATRYOSHKA_WEIGHT = 0.5  # as in ``stages.train``
DEFAULT_SCALE = 1 / 0.07


class TunableDualEncoder(Protocol):
    """The interface of a dual encoder that can be fine-tuned: Clerestory's own and the Hugging Face adapter."""

    digest: str
    dims: tuple[int, ...]
    network: Any

    def preprocess_images(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The network inputs of some images."""

    def preprocess_texts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The network inputs of some texts."""

    def encode_images(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` with gradients."""

    def encode_texts(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` with gradients."""


class TrainableDualEncoder:
    """A dual encoder that is fine-tuned; see ``TrainableModel``.

    Args:
        model: the model.
        config: resolved settings.
        cache: stores the embeddings of a locked tower.

    Raises:
        CapabilityError: the towers share weights and one of them is to be locked, or nothing is left to train.
    """

    score_definition = (
        "1 / rank of the image's own caption, the best one if it has several, among the captions of other images"
    )

    def __init__(self, model: TunableDualEncoder, config: TuneConfig, cache: EmbeddingCache) -> None:
        self.model, self.network, self.digest = model, model.network, model.digest
        self.kind: ModelKind = "clerestory" if isinstance(model, ClerestoryEncoder) else "dual"
        self.config, self.cache = config, cache
        used = {
            "image": used_weights(self.network, lambda: model.encode_images(model.preprocess_images([GREY]))),
            "text": used_weights(self.network, lambda: model.encode_texts(model.preprocess_texts(["a"]))),
        }
        self.locked = frozenset({config.lock} & set(TOWERS))
        self.trained = used["image"] | used["text"]
        for tower in self.locked:
            other = TOWERS[1 - TOWERS.index(tower)]
            self.trained = unlocked_weights(used[str(tower)], used[other], str(tower))
        if self.kind == "clerestory" and "text" not in self.locked:
            self.trained |= {"projection.rotation_EE"}
        if config.method == "full":
            self.trained |= {name for name in SHARED_SCALARS if name in all_weights(self.network)}
        self.sigmoid = config.loss == "sigmoid" or (
            config.loss == "auto" and self._shared_scalar("logit_bias") is not None
        )
        if config.loss == "sigmoid" and self._shared_scalar("logit_bias") is None:
            raise CapabilityError(
                "the sigmoid loss needs a model with a logit bias, such as SigLIP", "set loss to auto"
            )
        self._locked_cache: dict[tuple[str, str, Tower], Matrix] = {}
        self._pairs: CaptionPairs | None = None

    def prepare(self, pairs: CaptionPairs) -> None:
        """Set the training data and embed it with the locked tower, if there is one and its embeddings are cached."""
        self._pairs = pairs
        if self.config.cache_embeddings:
            for tower in TOWERS:
                if tower in self.locked:
                    self._locked_rows(pairs, tower)

    def backward(self, rows: Ints, epochs: Ints) -> float:
        """Add the gradients of the contrastive loss of some images with a caption of each; returns the loss."""
        if self._pairs is None:
            raise RuntimeError("call prepare first")
        captions_B = self._pairs.draw(rows, epochs, self.config.seed)
        images_BD = self._batch(self._pairs, rows, "image")
        texts_BD = self._batch(self._pairs, captions_B, "text")
        loss = self._loss(images_BD, texts_BD, torch.from_numpy(self._pairs.captions_N[rows]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        return float(loss.detach())

    def scores(self, pairs: CaptionPairs) -> Floats:
        """1 / rank of each image's best own caption; others with an equal similarity rank above it."""
        images_ND = torch.from_numpy(np.array(self._evaluation_rows(pairs, "image")))
        texts_MD = torch.from_numpy(np.array(self._evaluation_rows(pairs, "text")))
        similar_NM = images_ND @ texts_MD.T
        own_NM = torch.from_numpy(pairs.own(range(len(pairs))))
        best_N1 = similar_NM.masked_fill(~own_NM, -torch.inf).amax(dim=1, keepdim=True)
        rank_N = 1 + ((similar_NM >= best_N1) & ~own_NM).sum(dim=1)
        finite_N = torch.isfinite(similar_NM).all(dim=1)
        scores: Floats = torch.where(finite_N, 1.0 / rank_N, 0.0).double().numpy()
        return scores

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamp the trained logit scale to at most 100, as CLIP does."""
        scale = self._shared_scalar("logit_scale")
        if scale is not None and "logit_scale" in self.trained:
            scale.clamp_(max=MAX_LOG_SCALE)

    def facts(self) -> dict[str, Fact]:
        """Loss, truncated texts, and embeddings computed for the cache."""
        return {
            "loss": "sigmoid" if self.sigmoid else "softmax",
            "truncated_texts": int(getattr(self.model, "num_truncated", 0)),
            "cached_embeddings": self.cache.num_computed if self.locked and self.config.cache_embeddings else 0,
        }

    def _shared_scalar(self, name: str) -> Tensor | None:
        value = getattr(self.network, name, None)
        return value if isinstance(value, Tensor) and value.numel() == 1 else None

    def _scale(self) -> Tensor | float:
        scale, temperature = self._shared_scalar("logit_scale"), self._shared_scalar("temperature")
        if scale is not None:
            return scale.exp()
        if temperature is not None:
            return 1.0 / temperature
        return float(getattr(self.model, "logit_scale", 0.0)) or DEFAULT_SCALE

    def _loss(self, images_BD: Tensor, texts_BD: Tensor, caption_B: Tensor) -> Tensor:
        scale = self._scale()
        if self.sigmoid:
            bias = self._shared_scalar("logit_bias")
            return sigmoid_loss(images_BD, texts_BD, scale, 0.0 if bias is None else bias, caption_B=caption_B)
        loss = softmax_loss(images_BD, texts_BD, scale, caption_B=caption_B)
        shorter = self.model.dims[:-1]
        if not shorter:
            return loss
        weights = [MATRYOSHKA_WEIGHT / len(shorter)] * len(shorter)
        nested = matryoshka(
            lambda images, texts: softmax_loss(images, texts, scale, caption_B=caption_B),
            (images_BD, texts_BD),
            shorter,
            weights,
        )
        return loss + nested

    def _batch(self, pairs: CaptionPairs, rows: Ints, tower: Tower) -> Tensor:
        """Embeddings of some images, or of some captions by their index, ``(B, D)``.

        With gradients if the tower is trained, from the cache if it is locked.
        """
        if tower not in self.locked:
            return self._embed(pairs, rows, tower)
        if not self.config.cache_embeddings:
            with torch.no_grad():
                return self._embed(pairs, rows, tower)
        cached = self._locked_rows(pairs, tower)
        return torch.from_numpy(np.array(cached[rows]))

    def _embed(self, pairs: CaptionPairs, rows: Ints, tower: Tower) -> Tensor:
        """Embed some images, or some captions by their index; each distinct caption of a batch once."""
        if tower == "image":
            return self.model.encode_images(self._image_inputs(pairs, rows))
        distinct, inverse = np.unique(rows, return_inverse=True)
        return self.model.encode_texts(self.model.preprocess_texts([pairs.captions[i] for i in distinct]))[inverse]

    def _image_inputs(self, pairs: CaptionPairs, rows: Sequence[int] | Ints | range) -> dict[str, Tensor]:
        """The network's inputs for the images of some rows, with one decoded image in memory."""
        inputs = [self.model.preprocess_images([pairs.image(row)]) for row in rows]
        return {name: torch.cat([each[name] for each in inputs]) for name in inputs[0]}

    def _evaluation_rows(self, pairs: CaptionPairs, tower: Tower) -> Matrix:
        if tower in self.locked and self.config.cache_embeddings:
            return self._locked_rows(pairs, tower)
        return uncached_rows(_count(pairs, tower), self.model.dims[-1], self._embedder(pairs, tower))

    def _locked_rows(self, pairs: CaptionPairs, tower: Tower) -> Matrix:
        """All embeddings of a locked tower: of the images, or of the distinct captions."""
        inputs = pairs.images_digest if tower == "image" else pairs.captions_digest
        key = (inputs, pairs.data.name, tower)
        if key not in self._locked_cache:
            count, width = _count(pairs, tower), self.model.dims[-1]
            self._locked_cache[key] = self.cache.rows(
                self.digest, tower, inputs, count, width, self._embedder(pairs, tower)
            )
        return self._locked_cache[key]

    def _embedder(self, pairs: CaptionPairs, tower: Tower) -> Callable[[range], Matrix]:
        def embed(rows: range) -> Matrix:
            with torch.inference_mode():
                if tower == "image":
                    rows_ND = self.model.encode_images(self._image_inputs(pairs, rows))
                else:
                    texts = [pairs.captions[i] for i in rows]
                    rows_ND = self.model.encode_texts(self.model.preprocess_texts(texts))
                out: Matrix = rows_ND.numpy().astype(np.float32, copy=False)
            return out

        return embed


def _count(pairs: CaptionPairs, tower: Tower) -> int:
    return len(pairs) if tower == "image" else len(pairs.captions)
