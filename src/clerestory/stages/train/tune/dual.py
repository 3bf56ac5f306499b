"""Fine-tuning a dual encoder by contrast: both towers, or one beside the other's cached embeddings (LiT).

Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text Tuning", arXiv:2111.07991.

Everything runs in evaluation mode: no dropout, and batch normalisation keeps its averages. So a locked tower gives the
same numbers in every step, and computing them once is the same as computing them always.

Shape suffixes: B pictures of a batch, N pictures of a set, M texts, D width of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clerestory.core.errors import CapabilityError
from clerestory.models.clip_scorer import GREY
from clerestory.models.protocols import Matrix
from clerestory.models.runtime import Model
from clerestory.stages.train.losses import matryoshka, sigmoid_loss, softmax_loss
from clerestory.stages.train.tune.cache import Cache, plain_rows
from clerestory.stages.train.tune.caption_pairs import Ints, Pairs
from clerestory.stages.train.tune.config import Kind, TuneConfig
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stages.train.tune.weights import BETWEEN, all_weights, own_part, used_by

Side = Literal["image", "text"]
SIDES: tuple[Side, Side] = ("image", "text")
HIGHEST_SCALE = math.log(100.0)  # CLIP's own limit
NESTED_WEIGHT = 0.5  # as in the training of our own models
DEFAULT_SCALE = 1 / 0.07


class Dual(Protocol):
    """What a dual encoder must have to be trained; ours and the adapter of Hugging Face's do."""

    digest: str
    dims: tuple[int, ...]
    network: Any

    def picture_inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What the network takes for some pictures."""

    def text_inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the network takes for some texts."""

    def picture_rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` with gradients."""

    def text_rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` with gradients."""


class DualStudent:
    """A dual encoder that is fine-tuned; see ``Student``.

    Args:
        model: the model.
        config: resolved settings.
        cache: where the embeddings of a locked tower are kept.

    Raises:
        CapabilityError: the towers share weights and one of them shall be locked, or nothing is left to train.
    """

    asked = "1 / rank of the picture's own caption among all distinct captions of the set"

    def __init__(self, model: Dual, config: TuneConfig, cache: Cache) -> None:
        self.model, self.network, self.digest = model, model.network, model.digest
        self.kind: Kind = "own" if isinstance(model, Model) else "dual"
        self.config, self.cache = config, cache
        used = {
            "image": used_by(self.network, lambda: model.picture_rows(model.picture_inputs([GREY]))),
            "text": used_by(self.network, lambda: model.text_rows(model.text_inputs(["a"]))),
        }
        self.locked = frozenset({config.lock} & set(SIDES))
        self.trained = used["image"] | used["text"]
        for side in self.locked:
            other = SIDES[1 - SIDES.index(side)]
            self.trained = own_part(used[str(side)], used[other], str(side))
        if self.kind == "own" and "text" not in self.locked:
            self.trained |= {"projection.rotation_EE"}
        if config.method == "full":
            self.trained |= {name for name in BETWEEN if name in all_weights(self.network)}
        self.sigmoid = config.loss == "sigmoid" or (config.loss == "auto" and self._between("logit_bias") is not None)
        if config.loss == "sigmoid" and self._between("logit_bias") is None:
            raise CapabilityError("the sigmoid loss needs a model with a logit bias, such as SigLIP", "use loss auto")
        self._known: dict[tuple[str, str, Side], Matrix] = {}
        self._pairs: Pairs | None = None

    def learn_from(self, pairs: Pairs) -> None:
        """Embed the training pictures or captions with the locked tower, where one is and ``cache`` is on."""
        self._pairs = pairs
        if self.config.cache:
            for side in SIDES:
                if side in self.locked:
                    self._locked_rows(pairs, side)

    def backward(self, rows: Ints) -> float:
        """Add the gradients of the contrastive loss of some pictures with their captions; returns the loss."""
        if self._pairs is None:
            raise RuntimeError("learn_from comes first")
        images_BD, texts_BD = (self._batch(self._pairs, rows, side) for side in SIDES)
        loss = self._loss(images_BD, texts_BD, torch.from_numpy(self._pairs.own_N[rows]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        return float(loss.detach())

    def scores(self, exam: Pairs) -> Floats:
        """1 / rank of each picture's own caption; captions as near as its own count as nearer."""
        images_ND = torch.from_numpy(np.array(self._exam_rows(exam, "image")))
        texts_MD = torch.from_numpy(np.array(self._exam_rows(exam, "text")))
        own_N1 = torch.from_numpy(exam.own_N)[:, None]
        similar_NM = images_ND @ texts_MD.T
        rank_N = (similar_NM >= similar_NM.gather(1, own_N1)).sum(dim=1)
        sound_N = torch.isfinite(similar_NM).all(dim=1)
        scores: Floats = torch.where(sound_N, 1.0 / rank_N.clamp(min=1), 0.0).double().numpy()
        return scores

    @torch.no_grad()
    def settle(self) -> None:
        """Keep the trained scale at 100 or below, as CLIP does."""
        scale = self._between("logit_scale")
        if scale is not None and "logit_scale" in self.trained:
            scale.clamp_(max=HIGHEST_SCALE)

    def facts(self) -> dict[str, str]:
        """Loss, and how many texts were cut."""
        return {
            "loss": "sigmoid" if self.sigmoid else "softmax",
            "cut_texts": str(getattr(self.model, "truncated", 0)),
            "cached": str(self.cache.computed) if self.locked and self.config.cache else "nothing",
        }

    def _between(self, name: str) -> Tensor | None:
        value = getattr(self.network, name, None)
        return value if isinstance(value, Tensor) and value.numel() == 1 else None

    def _scale(self) -> Tensor | float:
        scale, temperature = self._between("logit_scale"), self._between("temperature")
        if scale is not None:
            return scale.exp()
        if temperature is not None:
            return 1.0 / temperature
        return float(getattr(self.model, "logit_scale", 0.0)) or DEFAULT_SCALE

    def _loss(self, images_BD: Tensor, texts_BD: Tensor, own_B: Tensor) -> Tensor:
        scale = self._scale()
        if self.sigmoid:
            bias = self._between("logit_bias")
            return sigmoid_loss(images_BD, texts_BD, scale, 0.0 if bias is None else bias, own_B=own_B)
        whole = softmax_loss(images_BD, texts_BD, scale, own_B=own_B)
        shorter = self.model.dims[:-1]
        if not shorter:
            return whole
        share = [NESTED_WEIGHT / len(shorter)] * len(shorter)
        nested = matryoshka(
            lambda images, texts: softmax_loss(images, texts, scale, own_B=own_B), (images_BD, texts_BD), shorter, share
        )
        return whole + nested

    def _batch(self, pairs: Pairs, rows: Ints, side: Side) -> Tensor:
        """Rows of one tower ``(B, D)``: with gradients where it is trained, out of the cache where it is locked."""
        if side not in self.locked:
            return self._embed(pairs, rows, side)
        if not self.config.cache:
            with torch.no_grad():
                return self._embed(pairs, rows, side)
        kept = self._locked_rows(pairs, side)
        return torch.from_numpy(np.array(kept[rows if side == "image" else pairs.own_N[rows]]))

    def _embed(self, pairs: Pairs, rows: Sequence[int] | Ints | range, side: Side) -> Tensor:
        """Embed the pictures of some rows, or their captions; each distinct caption of a batch once."""
        if side == "image":
            return self.model.picture_rows(self.model.picture_inputs(pairs.images(rows)))
        own = pairs.own_N[np.asarray(rows)]
        distinct, place = np.unique(own, return_inverse=True)
        return self.model.text_rows(self.model.text_inputs([pairs.captions[i] for i in distinct]))[place]

    def _exam_rows(self, exam: Pairs, side: Side) -> Matrix:
        if side in self.locked and self.config.cache:
            return self._locked_rows(exam, side)
        return plain_rows(_count(exam, side), self.model.dims[-1], self._embedder(exam, side))

    def _locked_rows(self, pairs: Pairs, side: Side) -> Matrix:
        """All rows of a locked tower: of the pictures, or of the distinct captions."""
        inputs = pairs.pictures_digest if side == "image" else pairs.captions_digest
        key = (inputs, pairs.data.name, side)
        if key not in self._known:
            count, width = _count(pairs, side), self.model.dims[-1]
            self._known[key] = self.cache.rows(self.digest, side, inputs, count, width, self._embedder(pairs, side))
        return self._known[key]

    def _embedder(self, pairs: Pairs, side: Side) -> Callable[[range], Matrix]:
        def embed(part: range) -> Matrix:
            with torch.inference_mode():
                if side == "image":
                    rows_ND = self.model.picture_rows(self.model.picture_inputs(pairs.images(part)))
                else:
                    texts = [pairs.captions[i] for i in part]
                    rows_ND = self.model.text_rows(self.model.text_inputs(texts))
                out: Matrix = rows_ND.numpy().astype(np.float32, copy=False)
            return out

        return embed


def _count(pairs: Pairs, side: Side) -> int:
    return len(pairs) if side == "image" else len(pairs.captions)
