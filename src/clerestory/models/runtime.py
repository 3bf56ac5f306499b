"""A model folder opened for inference: images and texts to embeddings, images to captions."""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from PIL import Image

from clerestory.core.codec import Fact
from clerestory.core.digest import digest_folder
from clerestory.core.errors import CapabilityError, IntegrityError
from clerestory.models.alignment import aligned
from clerestory.models.clip_scorer import NO_IMAGE, score_by_similarity
from clerestory.models.config import ClerestoryConfig
from clerestory.models.decoder import beam_search
from clerestory.models.folder_check import DOWNLOAD_AGAIN, OWN_TYPE, check_folder, display_name
from clerestory.models.loading import load_component, load_network, quiet_transformers
from clerestory.models.model import ClerestoryModel
from clerestory.models.pixels import to_pixels
from clerestory.models.processor import ClerestoryProcessor, normalise
from clerestory.models.projection import prefix
from clerestory.models.protocols import CaptionCandidate, Matrix, Scores, check_caption_count, unknown_dim
from clerestory.models.text_tower import TextTower, load_text_tower
from clerestory.models.text_tower_files import LANGUAGES

BATCH_SIZE = 64


class ClerestoryEncoder:
    """A trained Clerestory model: an ``Embedder``, a ``Scorer`` and a ``Captioner``; thread-safe.

    Args:
        network: the trained network.
        processor: images to pixels, word ids to words.
        text_tower: the frozen text tower the network was trained with.
        digest: SHA-256 of the model folder.

    Attributes:
        languages: of the texts that its text tower was trained on.
        vocabulary: the words that the tokenizer of its text tower does not split.
    """

    order_matters = False
    languages = LANGUAGES

    def __init__(
        self, network: ClerestoryModel, processor: ClerestoryProcessor, text_tower: TextTower, digest: str
    ) -> None:
        self.network = network.eval()
        self.processor = processor
        self.text_tower = text_tower
        self.vocabulary = text_tower.vocabulary
        self.digest = digest
        self.config: ClerestoryConfig = network.config
        self.dims: tuple[int, ...] = tuple(self.config.nested_dims)
        self.logit_scale = float(self.config.logit_scale)
        # Fast tokenizers have padding state, so two threads must not tokenize at the same time.
        self._tokenizer_lock = threading.Lock()

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        width = self._width(dim)
        rows = [prefix(self.network.get_image_features(pixels), width) for pixels in self._pixels(images)]
        return _concatenate(rows, width)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        width = self._width(dim)
        if not texts:
            return _concatenate([], width)
        with self._tokenizer_lock:
            rows = aligned(torch.from_numpy(self.text_tower.embed(texts)))
        return _concatenate([prefix(self.network.get_text_features(rows), width)], width)

    @torch.inference_mode()
    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each image by beam search, best first.

        Raises:
            InputError: ``n`` is less than 1.
        """
        check_caption_count(n)
        out: list[list[CaptionCandidate]] = []
        for pixels in self._pixels(images):
            tokens, _ = self.network.image_tower(pixels)
            beams = beam_search(self.network.decoder, tokens, self.config, n)
            out.extend(
                [CaptionCandidate(self._decode(ids), score) for ids, score in candidates] for candidates in beams
            )
        return out

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options, by similarity; see ``models.clip_scorer``."""
        return score_by_similarity(self, self.logit_scale, images, questions, options)

    def facts(self) -> dict[str, Fact]:
        """Preset, parameters, image size, embedding widths, vocabulary size, experts, text tower and its languages."""
        config = self.config
        return {
            "preset": config.preset or "none",
            "parameters": self.network.num_parameters(),
            "image_size": config.image_size,
            "dims": self.dims,
            "vocab_size": config.vocab_size,
            "experts": config.experts,
            "logit_scale": self.logit_scale,
            "no_image": NO_IMAGE,
            "text_tower": config.text_tower_digest,
            "languages": self.languages,
        }

    def preprocess_images(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """The network's inputs for some images."""
        return {"pixel_values": normalise(to_pixels(images, self.config.image_size))}

    def preprocess_texts(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The network's inputs for some texts: the embeddings of the text tower, which is never trained."""
        with self._tokenizer_lock:
            return {"text_embeddings": aligned(torch.from_numpy(self.text_tower.embed(texts)))}

    def encode_images(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Unit rows ``(N, D)`` of the outputs of ``preprocess_images``, with gradients if they are enabled."""
        rows_ND: torch.Tensor = self.network.get_image_features(inputs["pixel_values"])
        return rows_ND

    def encode_texts(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Unit rows ``(N, D)`` of the outputs of ``preprocess_texts``, with gradients if they are enabled."""
        rows_ND: torch.Tensor = self.network.get_text_features(inputs["text_embeddings"])
        return rows_ND

    def _width(self, dim: int | None) -> int:
        if dim is None:
            return self.dims[-1]
        if dim not in self.dims:
            raise unknown_dim(dim, self.dims)
        return dim

    def _pixels(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        side = self.config.image_size
        return [normalise(to_pixels(images[i : i + BATCH_SIZE], side)) for i in range(0, len(images), BATCH_SIZE)]

    def _decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.processor.tokenizer.convert_ids_to_tokens(list(ids)))


def open_model(folder: Path | str) -> ClerestoryEncoder:
    """Open a model folder.

    Raises:
        NotFound: the folder does not exist, or the text tower is not on this machine.
        CapabilityError: the folder contains another kind of model.
        IntegrityError: one of its files is missing or broken, the files do not belong together, or the text tower on
            this machine is a different one.
    """
    folder = Path(folder)
    kind = check_folder(folder).get("model_type")
    if kind != OWN_TYPE:
        raise CapabilityError(f"{folder} contains a model of type {kind!r}", "open a Clerestory model")
    config = cast(ClerestoryConfig, load_component(ClerestoryConfig, folder, "configuration"))
    network = cast(ClerestoryModel, load_network(ClerestoryModel, folder, config=config, dtype=torch.float32))
    processor = cast(ClerestoryProcessor, load_component(ClerestoryProcessor, folder, "processor"))
    if len(processor.tokenizer) != config.vocab_size:
        raise IntegrityError(
            f"the tokenizer of {display_name(folder)} has {len(processor.tokenizer):,} words, but the network "
            f"{config.vocab_size:,}",
            DOWNLOAD_AGAIN,
        )
    return ClerestoryEncoder(network, processor, load_text_tower(config.text_tower_digest), digest_folder(folder)[0])


def save_model(network: ClerestoryModel, processor: ClerestoryProcessor, folder: Path) -> Path:
    """Write a model folder in Hugging Face's layout, with safetensors weights; returns the folder."""
    with quiet_transformers():
        network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _concatenate(rows: list[torch.Tensor], width: int) -> Matrix:
    rows_ND = torch.cat(rows) if rows else torch.empty(0, width)
    out: Matrix = rows_ND.float().contiguous().numpy()
    return out
