"""Any Hugging Face dual encoder (CLIP, SigLIP, SigLIP 2, ALIGN, Chinese CLIP …), by what it can do.

Whatever has ``get_image_features`` and ``get_text_features`` that give one row each, of the same width, will do.

Shape suffixes: N pictures or texts, D width of an embedding, T tokens.
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
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from clerestory.core.errors import CapabilityError
from clerestory.models.adapters.files import check_folder, files_digest
from clerestory.models.adapters.loading import (
    count_parameters,
    read_config,
    read_image_processor,
    read_network,
    read_tokenizer,
    rgb,
)
from clerestory.models.clip_scorer import BLIND, GREY, score_by_similarity
from clerestory.models.protocols import Matrix, Scores

BATCH = 32
# SigLIP was trained on texts filled up to 64 pieces, without telling the fill from the text.
SIGLIP_TOKENS = 64


class DualEncoder:
    """An ``Embedder`` and a ``Scorer``; safe to use from several threads.

    Args:
        network: has ``get_image_features`` and ``get_text_features``.
        tokenizer: the model's own.
        image_processor: the model's own.
        digest: SHA-256 of the model's files.
        name: for messages.

    Attributes:
        logit_scale: what similarities are multiplied by before the softmax: ``exp`` of the trained parameter, or 1 /
            the trained temperature; 0 (not told) where the model has neither, and 1 is taken for scoring.
        truncated: how many texts so far were longer than the model reads and were cut.
    """

    order_matters = False

    def __init__(self, network: Any, tokenizer: Any, image_processor: Any, digest: str, name: str) -> None:
        self.network, self.tokenizer, self.image_processor = network, tokenizer, image_processor
        self.digest, self.name = digest, name
        self.logit_scale = _logit_scale(network)
        self.siglip = str(network.config.model_type).startswith("siglip")
        self.most_tokens = _most_tokens(network.config, tokenizer)
        self.truncated = 0
        # Fast tokenizers keep padding state, so two threads must not tokenize at once.
        self._one_at_a_time = threading.Lock()
        width = self._texts(["a"]).shape[1]
        seen = self._images([GREY]).shape[1]
        if seen != width:
            raise CapabilityError(
                f"{name} gives pictures {seen} numbers and texts {width}: they do not share a space",
                "use a dual encoder such as CLIP or SigLIP 2",
            )
        self.dims: tuple[int, ...] = (width,)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        self._check(dim)
        return self._stacked(images, self._images)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32; a text longer than the model reads is cut and counted."""
        self._check(dim)
        return self._stacked(texts, self._texts)

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options, by similarity; see ``models.similarity``."""
        return score_by_similarity(self, self.logit_scale or 1.0, images, questions, options)

    def count_tokens(self, text: str) -> int:
        """How many word pieces a text has, marks included."""
        with self._one_at_a_time:
            return len(self.tokenizer(text)["input_ids"])

    def facts(self) -> dict[str, str]:
        """What it is, in short strings."""
        size = getattr(self.image_processor, "size", None)
        bias = getattr(self.network, "logit_bias", None)
        facts = {
            "kind": "Hugging Face dual encoder",
            "architecture": type(self.network).__name__,
            "parameters": str(count_parameters(self.network)),
            "image_size": " ".join(f"{k}={v}" for k, v in dict(size).items() if v is not None) if size else "its own",
            "dims": " ".join(map(str, self.dims)),
            "text_tokens": str(self.most_tokens),
            "logit_scale": f"{self.logit_scale:g}",
            "blind": BLIND,
        }
        return facts | ({} if bias is None else {"logit_bias": f"{float(bias):g}"})

    def _check(self, dim: int | None) -> None:
        if dim not in (None, self.dims[-1]):
            raise CapabilityError(f"embeddings of width {dim} were asked for", f"it has {self.dims[-1]}")

    def _stacked(self, things: Sequence[Any], embed: Callable[[Sequence[Any]], Tensor]) -> Matrix:
        rows = [embed(things[i : i + BATCH]) for i in range(0, len(things), BATCH)]
        whole_ND = torch.cat(rows) if rows else torch.empty(0, self.dims[-1])
        out_ND: Matrix = whole_ND.numpy().astype(np.float32, copy=False)
        return out_ND

    def preprocess_images(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What the network takes for some pictures."""
        return dict(self.image_processor(images=[rgb(image) for image in images], return_tensors="pt"))

    def preprocess_texts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the network takes for some texts; those longer than it reads are cut and counted."""
        with self._one_at_a_time:
            whole = self.tokenizer(list(texts))["input_ids"]
            inputs = dict(
                self.tokenizer(
                    list(texts),
                    padding="max_length" if self.siglip else True,
                    truncation=True,
                    max_length=self.most_tokens,
                    return_tensors="pt",
                )
            )
        self.truncated += sum(len(ids) > self.most_tokens for ids in whole)
        if self.siglip:
            inputs.pop("attention_mask", None)
        return inputs

    def encode_images(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` of ``picture_inputs``, with gradients where these are on."""
        return self._rows(self.network.get_image_features, inputs)

    def encode_texts(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows ``(N, D)`` of ``text_inputs``, with gradients where these are on."""
        return self._rows(self.network.get_text_features, inputs)

    @torch.inference_mode()
    def _images(self, images: Sequence[Image.Image]) -> Tensor:
        return self._counted(self.encode_images(self.preprocess_images(images)), len(images))

    @torch.inference_mode()
    def _texts(self, texts: Sequence[str]) -> Tensor:
        return self._counted(self.encode_texts(self.preprocess_texts(texts)), len(texts))

    def _rows(self, features: Callable[..., Any], inputs: Mapping[str, Tensor]) -> Tensor:
        """Unit rows of one tower; ``pooler_output`` where it answers with an output object."""
        known = inspect.signature(features).parameters
        answer = features(**{name: value for name, value in inputs.items() if name in known})
        rows_ND = answer if isinstance(answer, Tensor) else getattr(answer, "pooler_output", None)
        if not isinstance(rows_ND, Tensor) or rows_ND.ndim != 2:
            raise self._no_dual()
        return F.normalize(rows_ND.float(), dim=-1)

    def _counted(self, rows_ND: Tensor, count: int) -> Tensor:
        if len(rows_ND) != count:
            raise self._no_dual()
        return rows_ND

    def _no_dual(self) -> CapabilityError:
        return CapabilityError(
            f"{self.name} does not give one embedding for each input", "use a dual encoder such as CLIP or SigLIP 2"
        )


def is_dual(network: type[nn.Module] | nn.Module) -> bool:
    """Whether a network embeds pictures and texts."""
    return hasattr(network, "get_image_features") and hasattr(network, "get_text_features")


def open_dual(folder: Path, name: str = "") -> DualEncoder:
    """Open a folder of a dual encoder.

    Raises:
        NotFound, IntegrityError: the folder or a part of it is missing or broken.
        CapabilityError: its weights are no safetensors, it needs code of its own, or it is no dual encoder.
    """
    check_folder(folder)
    read_config(folder)
    network = read_network(folder, AutoModel)
    if not is_dual(network):
        raise CapabilityError(
            f"{name or folder.name} ({type(network).__name__}) does not embed pictures and texts",
            "use a dual encoder such as CLIP or SigLIP 2",
        )
    tokenizer, image_processor = read_tokenizer(folder), read_image_processor(folder)
    return DualEncoder(network, tokenizer, image_processor, files_digest(folder), name or folder.name)


def _logit_scale(network: Any) -> float:
    scale, temperature = getattr(network, "logit_scale", None), getattr(network, "temperature", None)
    if isinstance(scale, Tensor) and scale.numel() == 1:
        return float(scale.exp())
    if isinstance(temperature, Tensor) and temperature.numel() == 1 and float(temperature) > 0:
        return 1.0 / float(temperature)
    return 0.0


def _most_tokens(config: Any, tokenizer: Any) -> int:
    """The longest text the model reads: what its positions hold, and no more than its tokenizer allows."""
    text = getattr(config, "text_config", config)
    positions = int(getattr(text, "max_position_embeddings", 0) or 512)
    if "roberta" in str(getattr(text, "model_type", "")) or config.model_type == "altclip":
        positions -= 2  # its positions begin after the padding index
    most = min(positions, int(tokenizer.model_max_length))
    return min(most, SIGLIP_TOKENS) if str(config.model_type).startswith("siglip") else most
