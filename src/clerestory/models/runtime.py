"""A model folder opened for use: pictures and texts to embeddings, pictures to captions."""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers.utils import logging

from clerestory.core.digest import digest_folder
from clerestory.core.errors import CapabilityError, IntegrityError, NotFound
from clerestory.models.alignment import aligned
from clerestory.models.clip_scorer import BLIND, score_by_similarity
from clerestory.models.config import ClerestoryConfig
from clerestory.models.decoder import beam_search
from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import ClerestoryProcessor, normalise, to_pixels
from clerestory.models.projection import prefix
from clerestory.models.protocols import CaptionCandidate, Matrix, Scores
from clerestory.models.text_tower import TextTower, load_text_tower

BATCH = 64


class ClerestoryEncoder:
    """An ``Embedder``, a ``Scorer`` and a ``Captioner``; safe to use from several threads.

    Args:
        network: the trained part.
        processor: pictures to pixels, word ids to words.
        text_tower: the locked text tower the network was trained with.
        digest: SHA-256 of the folder it came from.
    """

    order_matters = False

    def __init__(
        self, network: ClerestoryModel, processor: ClerestoryProcessor, text_tower: TextTower, digest: str
    ) -> None:
        self.network = network.eval()
        self.processor = processor
        self.text_tower = text_tower
        self.digest = digest
        self.config: ClerestoryConfig = network.config
        self.dims: tuple[int, ...] = tuple(self.config.nested_dims)
        self.logit_scale = float(self.config.logit_scale)
        # Fast tokenizers keep padding state, so two threads must not tokenize at once.
        self._one_at_a_time = threading.Lock()

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        width = self._width(dim)
        rows = [prefix(self.network.get_image_features(pixels), width) for pixels in self._pixels(images)]
        return _stacked(rows, width)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        width = self._width(dim)
        if not texts:
            return _stacked([], width)
        with self._one_at_a_time:
            rows = aligned(torch.from_numpy(self.text_tower.embed(texts)))
        return _stacked([prefix(self.network.get_text_features(rows), width)], width)

    @torch.inference_mode()
    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each picture, best first."""
        if n < 1:
            raise CapabilityError(f"{n} suggestions were asked for", "ask for at least one")
        out: list[list[CaptionCandidate]] = []
        for pixels in self._pixels(images):
            tokens, _ = self.network.image_tower(pixels)
            searched = beam_search(self.network.decoder, tokens, self.config, n)
            out.extend([CaptionCandidate(self._words(ids), score) for ids, score in found] for found in searched)
        return out

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options, by similarity; see ``models.similarity``."""
        return score_by_similarity(self, self.logit_scale, images, questions, options)

    def facts(self) -> dict[str, str]:
        """What it is, in short strings: preset, parameters, picture size, widths, words, experts, text tower."""
        config = self.config
        return {
            "preset": config.preset or "none",
            "parameters": str(self.network.count()),
            "image_size": str(config.image_size),
            "dims": " ".join(map(str, self.dims)),
            "vocabulary": str(config.vocab_size),
            "experts": str(config.experts),
            "logit_scale": f"{self.logit_scale:g}",
            "blind": BLIND,
            "text_tower": config.text_tower_digest,
        }

    def preprocess_images(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """What the network takes for some pictures."""
        return {"pixel_values": normalise(to_pixels(images, self.config.image_size))}

    def preprocess_texts(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the network takes for some texts: the rows of the text tower, which is never trained."""
        with self._one_at_a_time:
            return {"text_embeddings": aligned(torch.from_numpy(self.text_tower.embed(texts)))}

    def encode_images(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Unit rows ``(N, D)`` of ``picture_inputs``, with gradients where these are on."""
        rows_ND: torch.Tensor = self.network.get_image_features(inputs["pixel_values"])
        return rows_ND

    def encode_texts(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Unit rows ``(N, D)`` of ``text_inputs``, with gradients where these are on."""
        rows_ND: torch.Tensor = self.network.get_text_features(inputs["text_embeddings"])
        return rows_ND

    def _width(self, dim: int | None) -> int:
        if dim is None:
            return self.dims[-1]
        if dim not in self.dims:
            raise CapabilityError(
                f"embeddings of width {dim} were asked for", f"it has {', '.join(map(str, self.dims))}"
            )
        return dim

    def _pixels(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        side = self.config.image_size
        return [normalise(to_pixels(images[i : i + BATCH], side)) for i in range(0, len(images), BATCH)]

    def _words(self, ids: Sequence[int]) -> str:
        return " ".join(self.processor.tokenizer.convert_ids_to_tokens(list(ids)))


def open_model(folder: Path | str) -> ClerestoryEncoder:
    """Open a model folder.

    Raises:
        NotFound: there is no such folder, or the text tower is not on this machine.
        CapabilityError: the folder holds another kind of model.
        IntegrityError: a file of it is missing or broken, or the text tower found is not the one it needs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFound(f"there is no model folder {folder}", "give the folder that holds config.json")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise IntegrityError(f"{folder / name} is missing", "a model folder has config, weights and tokenizer")
    try:
        config = ClerestoryConfig.from_pretrained(folder)
        if config.model_type != "clerestory":
            raise CapabilityError(f"{folder} holds a model of type {config.model_type!r}", "open a Clerestory model")
        with no_bars():
            network = ClerestoryModel.from_pretrained(folder, config=config, use_safetensors=True)
        processor = ClerestoryProcessor.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise IntegrityError(f"{folder} cannot be read as a model: {error}", "restore it from a copy") from error
    return ClerestoryEncoder(network, processor, load_text_tower(config.text_tower_digest), digest_folder(folder)[0])


def save_model(network: ClerestoryModel, processor: ClerestoryProcessor, folder: Path) -> Path:
    """Write a model folder in Hugging Face's layout, safetensors only; returns the folder."""
    with no_bars():
        network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@contextmanager
def no_bars() -> Iterator[None]:
    """Transformers draws a bar for every file it reads; ours says what matters."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _stacked(rows: list[torch.Tensor], width: int) -> Matrix:
    whole = torch.cat(rows) if rows else torch.empty(0, width)
    out: Matrix = whole.float().contiguous().numpy()
    return out
