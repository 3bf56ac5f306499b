"""Any Hugging Face dual encoder (CLIP, SigLIP, SigLIP 2, ALIGN, Chinese CLIP …).

A network qualifies if its ``get_image_features`` and ``get_text_features`` return one row per input, of the same width.

Shape suffixes: N images or texts, D width of an embedding, T tokens.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from clerestory.core.codec import Fact
from clerestory.core.errors import CapabilityError
from clerestory.models.adapters.files import files_digest
from clerestory.models.adapters.loading import (
    count_parameters,
    load_config,
    load_frozen_network,
    load_image_processor,
    load_tokenizer,
    model_input,
)
from clerestory.models.clip_scorer import GREY, NO_IMAGE, score_by_similarity
from clerestory.models.folder_check import display_name
from clerestory.models.languages import card_languages, whole_words
from clerestory.models.protocols import Matrix, Scores, unknown_dim

BATCH_SIZE = 32
SIGLIP_TOKENS = 64  # SigLIP was trained on texts padded to this length, without an attention mask
SUGGESTION = "use a dual encoder such as CLIP or SigLIP 2"


class DualEncoder:
    """An ``Embedder`` and a ``Scorer``; thread-safe.

    Args:
        network: has ``get_image_features`` and ``get_text_features``.
        tokenizer: the model's own tokenizer.
        image_processor: the model's own image processor.
        digest: SHA-256 of the model's files.
        name: for messages.
        languages: that its model card names; empty if it names none.

    Attributes:
        vocabulary: the words that its tokenizer does not split.
        logit_scale: factor of the similarities before the softmax: ``exp`` of the trained parameter, or 1 / the trained
            temperature; 0 if the model has neither, and scoring uses 1.
        max_text_tokens: maximum length of a text.
        num_truncated: number of texts so far that were longer and were truncated.
    """

    order_matters = False

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        image_processor: Any,
        digest: str,
        name: str,
        languages: tuple[str, ...] = (),
    ) -> None:
        self.network, self.tokenizer, self.image_processor = network, tokenizer, image_processor
        self.digest, self.name, self.languages = digest, name, languages
        self.vocabulary = whole_words(tokenizer.get_vocab())
        self.logit_scale = _logit_scale(network)
        self._is_siglip = str(network.config.model_type).startswith("siglip")
        self.max_text_tokens = _max_text_tokens(network.config, tokenizer)
        self.num_truncated = 0
        # Fast tokenizers have padding state, so two threads must not tokenize at the same time.
        self._tokenizer_lock = threading.Lock()
        text_width, image_width = self._embed_texts(["a"]).shape[1], self._embed_images([GREY]).shape[1]
        if image_width != text_width:
            raise CapabilityError(
                f"{name} has image embeddings of width {image_width} and text embeddings of width {text_width}: "
                "they do not share a space",
                SUGGESTION,
            )
        self.dims: tuple[int, ...] = (text_width,)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        self._check(dim)
        return self._in_batches(images, self._embed_images)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32; a longer text than ``max_text_tokens`` is truncated and counted."""
        self._check(dim)
        return self._in_batches(texts, self._embed_texts)

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options, by similarity; see ``models.clip_scorer``."""
        return score_by_similarity(self, self.logit_scale or 1.0, images, questions, options)

    def facts(self) -> dict[str, Fact]:
        """Architecture, parameters, image size, embedding width and scale of the similarities."""
        size = dict(getattr(self.image_processor, "size", None) or {})
        bias = getattr(self.network, "logit_bias", None)
        facts: dict[str, Fact] = {
            "kind": "Hugging Face dual encoder",
            "architecture": type(self.network).__name__,
            "parameters": count_parameters(self.network),
            "image_size": tuple(f"{name}={value}" for name, value in size.items() if value is not None),
            "dims": self.dims,
            "max_text_tokens": self.max_text_tokens,
            "logit_scale": self.logit_scale,
            "no_image": NO_IMAGE,
            "languages": self.languages,
        }
        return facts if bias is None else facts | {"logit_bias": float(bias)}

    def _check(self, dim: int | None) -> None:
        if dim not in (None, self.dims[-1]):
            raise unknown_dim(int(dim or 0), self.dims)

    def _in_batches(self, items: Sequence[Any], embed: Callable[[Sequence[Any]], Tensor]) -> Matrix:
        batches = [embed(items[i : i + BATCH_SIZE]) for i in range(0, len(items), BATCH_SIZE)]
        rows_ND = torch.cat(batches) if batches else torch.empty(0, self.dims[-1])
        out_ND: Matrix = rows_ND.numpy().astype(np.float32, copy=False)
        return out_ND

    def preprocess_images(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The network's inputs for some images."""
        return dict(self.image_processor(images=[model_input(image) for image in images], return_tensors="pt"))

    def preprocess_texts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The network's inputs for some texts; longer texts than ``max_text_tokens`` are truncated and counted."""
        with self._tokenizer_lock:
            untruncated = self.tokenizer(list(texts), verbose=False)["input_ids"]
            inputs = dict(
                self.tokenizer(
                    list(texts),
                    padding="max_length" if self._is_siglip else True,
                    truncation=True,
                    max_length=self.max_text_tokens,
                    return_tensors="pt",
                )
            )
        self.num_truncated += sum(len(ids) > self.max_text_tokens for ids in untruncated)
        if self._is_siglip:
            inputs.pop("attention_mask", None)
        return inputs

    def encode_images(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` of the outputs of ``preprocess_images``, with gradients if they are enabled."""
        return self._encode(self.network.get_image_features, inputs)

    def encode_texts(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` of the outputs of ``preprocess_texts``, with gradients if they are enabled."""
        return self._encode(self.network.get_text_features, inputs)

    @torch.inference_mode()
    def _embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        return self._check_rows(self.encode_images(self.preprocess_images(images)), len(images))

    @torch.inference_mode()
    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        return self._check_rows(self.encode_texts(self.preprocess_texts(texts)), len(texts))

    def _encode(self, features: Callable[..., Any], inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows of one tower; ``pooler_output`` if its result is an output object."""
        parameters = inspect.signature(features).parameters
        result = features(**{name: value for name, value in inputs.items() if name in parameters})
        rows_ND = result if isinstance(result, Tensor) else getattr(result, "pooler_output", None)
        if not isinstance(rows_ND, Tensor) or rows_ND.ndim != 2:
            raise self._not_a_dual_encoder()
        return F.normalize(rows_ND.float(), dim=-1)

    def _check_rows(self, rows_ND: Tensor, count: int) -> Tensor:
        if len(rows_ND) != count:
            raise self._not_a_dual_encoder()
        return rows_ND

    def _not_a_dual_encoder(self) -> CapabilityError:
        return CapabilityError(f"{self.name} does not return one embedding for each input", SUGGESTION)


def is_dual(network: type[nn.Module] | nn.Module) -> bool:
    """Whether a network embeds images and texts."""
    return hasattr(network, "get_image_features") and hasattr(network, "get_text_features")


def open_dual(folder: Path, name: str = "") -> DualEncoder:
    """Open a folder of a dual encoder.

    Raises:
        NotFound, IntegrityError: the folder or one of its files is missing or broken.
        CapabilityError: its weights are not safetensors, it needs custom code, or it is not a dual encoder.
    """
    name = name or display_name(folder)
    config = load_config(folder)
    # The architecture the weights were saved from, such as a classifier with the type of a dual encoder.
    kind: Any = getattr(transformers, next(iter(config.architectures or ()), ""), None)
    if kind is not None and not is_dual(kind):
        raise CapabilityError(f"{name} ({kind.__name__}) does not embed images and texts", SUGGESTION)
    network = load_frozen_network(folder, AutoModel)
    if not is_dual(network):
        raise CapabilityError(f"{name} ({type(network).__name__}) does not embed images and texts", SUGGESTION)
    tokenizer, image_processor = load_tokenizer(folder), load_image_processor(folder)
    return DualEncoder(network, tokenizer, image_processor, files_digest(folder), name, card_languages(folder))


def _logit_scale(network: Any) -> float:
    scale, temperature = getattr(network, "logit_scale", None), getattr(network, "temperature", None)
    if isinstance(scale, Tensor) and scale.numel() == 1:
        return float(scale.exp())
    if isinstance(temperature, Tensor) and temperature.numel() == 1 and float(temperature) > 0:
        return 1.0 / float(temperature)
    return 0.0


def _max_text_tokens(config: Any, tokenizer: Any) -> int:
    """The maximum length of a text: the number of positions, or the limit of the tokenizer if that is smaller."""
    text = getattr(config, "text_config", config)
    positions = int(getattr(text, "max_position_embeddings", 0) or 512)
    if "roberta" in str(getattr(text, "model_type", "")) or config.model_type == "altclip":
        positions -= 2  # position ids begin after the padding index
    limit = min(positions, int(tokenizer.model_max_length))
    return min(limit, SIGLIP_TOKENS) if str(config.model_type).startswith("siglip") else limit
