"""An exported model, ready to use: an ``Embedder`` and a ``Scorer``, and a ``Captioner`` where it has a decoder.

Neither torch nor transformers is imported. Its ``digest`` is that of the model it was exported from: embeddings that
are equal to within rounding are interchangeable, so caches, calibration and releases of that model hold for it.

Shape suffixes: N images or texts, T word pieces, D width of an embedding, E width of the text tower.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clerestory.core.codec import Fact
from clerestory.core.errors import IntegrityError
from clerestory.models.clip_scorer import score_by_similarity
from clerestory.models.folder_check import OWN_TYPE, PHOTO_TYPE
from clerestory.models.onnx.captions import search_captions
from clerestory.models.onnx.folder import (
    ARRAYS,
    DECODER_GRAPH,
    EXPORT_AGAIN,
    IMAGE_GRAPH,
    TEXT_GRAPH,
    WORDS,
    OnnxSettings,
    check_tower,
    read_settings,
)
from clerestory.models.onnx.session import Graph
from clerestory.models.photo.photo_pixels import photo_pixels
from clerestory.models.photo.space import PhotoSpace, join_features, unit_rows
from clerestory.models.pixels import to_pixels
from clerestory.models.protocols import CaptionCandidate, Matrix, Scores, check_caption_count, unknown_dim
from clerestory.models.text_batches import TextBatches
from clerestory.models.text_tower_files import LANGUAGES
from clerestory.models.word_pieces import load_word_pieces

BATCH_SIZE = 64
PHOTO_THREADS = 2
ROTATION = "rotation"


class OnnxTextTower(TextBatches):
    """The exported text tower of a verified folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._graph = Graph(folder / TEXT_GRAPH)
        width = self._pooled([[0]]).shape[1]
        super().__init__(load_word_pieces(folder), width)

    def _embed_ids(self, rows: Sequence[Sequence[int]]) -> Matrix:
        return self._pooled(rows)

    def _pooled(self, rows: Sequence[Sequence[int]]) -> Matrix:
        longest = max(map(len, rows))
        ids_NT = np.zeros((len(rows), longest), np.int64)
        mask_NT = np.zeros((len(rows), longest), np.int64)
        for i, row in enumerate(rows):
            ids_NT[i, : len(row)] = row
            mask_NT[i, : len(row)] = 1
        return self._graph.run(["embeddings"], {"ids": ids_NT, "mask": mask_NT})[0]


@lru_cache(maxsize=2)
def _text_tower(folder: Path) -> OnnxTextTower:
    return OnnxTextTower(folder)


class OnnxEncoder:
    """An exported model; thread-safe.

    Args:
        folder: a verified folder.
        settings: of the folder.
        text_tower: the exported text tower.
        arrays: of the folder.

    Attributes:
        digest: of the model that it was exported from.
        languages: of the texts that its text tower was trained on.
        vocabulary: the words that the tokenizer of its text tower does not split.
    """

    order_matters = False
    languages = LANGUAGES

    def __init__(
        self, folder: Path, settings: OnnxSettings, text_tower: OnnxTextTower, arrays: dict[str, NDArray[Any]]
    ) -> None:
        self.folder = folder
        self.onnx_settings = settings
        self.settings = {"text_tower_digest": settings.text_tower_digest}
        self.text_tower = text_tower
        self.vocabulary = text_tower.vocabulary
        self.digest = settings.source
        self.dims: tuple[int, ...] = settings.dims
        self.logit_scale = settings.logit_scale
        self._images = Graph(folder / IMAGE_GRAPH)
        self._arrays = arrays
        # Fast tokenizers have padding state, so two threads must not tokenize at the same time.
        self._tokenizer_lock = threading.Lock()

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        width = self._width(dim)
        rows = [self._images.run(["embeddings"], {"pixels": pixels})[0] for pixels in self._pixels(images)]
        return self._prefix(np.concatenate(rows), width) if rows else np.zeros((0, width), np.float32)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        width = self._width(dim)
        if not texts:
            return np.zeros((0, width), np.float32)
        with self._tokenizer_lock:
            rows_NE = self.text_tower.embed(texts)
        return self._prefix(self._project_texts(rows_NE), width)

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options, by similarity; see ``models.clip_scorer``."""
        return score_by_similarity(self, self.logit_scale, images, questions, options)

    def facts(self) -> dict[str, Fact]:
        """Those of the model that it was exported from, and the runtime."""
        return {**self.onnx_settings.facts, "runtime": "onnxruntime"}

    def _project_texts(self, rows_NE: Matrix) -> Matrix:
        rows_ND: Matrix = rows_NE @ self._arrays[ROTATION]
        return rows_ND

    def _pixels(self, images: Sequence[Image.Image]) -> list[Matrix]:
        """The network's input, ``(B, C, H, W)`` in -1..1, in batches."""
        side = self.onnx_settings.image_size
        batches = (to_pixels(images[i : i + BATCH_SIZE], side) for i in range(0, len(images), BATCH_SIZE))
        # The operations of ``processor.normalise`` in its order, so that the inputs are the same bits.
        return [batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1) for batch in batches]

    def _width(self, dim: int | None) -> int:
        if dim is None:
            return self.dims[-1]
        if dim not in self.dims:
            raise unknown_dim(dim, self.dims)
        return dim

    @staticmethod
    def _prefix(rows_ND: Matrix, width: int) -> Matrix:
        return unit_rows(rows_ND[:, :width]).astype(np.float32)


class OnnxCaptioner(OnnxEncoder):
    """An exported model with a caption decoder."""

    def __init__(
        self, folder: Path, settings: OnnxSettings, text_tower: OnnxTextTower, arrays: dict[str, NDArray[Any]]
    ) -> None:
        super().__init__(folder, settings, text_tower, arrays)
        self._decoder = Graph(folder / DECODER_GRAPH)
        self._words = _read_words(folder / WORDS)

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each image by beam search, best first.

        Raises:
            InputError: ``n`` is less than 1.
        """
        check_caption_count(n)
        out = []
        for pixels in self._pixels(images):
            for tokens_TD in self._images.run(["tokens"], {"pixels": pixels})[0]:
                found = search_captions(self._logits, tokens_TD, self.onnx_settings.max_caption_tokens, n)
                out.append([CaptionCandidate(" ".join(self._words[i] for i in ids), score) for ids, score in found])
        return out

    def _logits(self, ids_WL: NDArray[np.int64], tokens_WTD: Matrix) -> Matrix:
        return self._decoder.run(["logits"], {"ids": ids_WL, "tokens": np.ascontiguousarray(tokens_WTD)})[0]


class OnnxPhotoEncoder(OnnxEncoder):
    """An exported photo encoder: each photograph in a size of its own, the space with numpy."""

    def __init__(
        self, folder: Path, settings: OnnxSettings, text_tower: OnnxTextTower, arrays: dict[str, NDArray[Any]]
    ) -> None:
        super().__init__(folder, settings, text_tower, arrays)
        self._space = PhotoSpace.from_tensors(arrays)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32; the row of a photograph does not depend on the others."""
        width = self._width(dim)
        if not images:
            return np.zeros((0, width), np.float32)
        if len(images) == 1:
            return self._prefix(self._embed(images[0]), width)
        with ThreadPoolExecutor(PHOTO_THREADS, "photographs") as pool:
            return self._prefix(np.concatenate(list(pool.map(self._embed, images))), width)

    def _embed(self, image: Image.Image) -> Matrix:
        pixels = np.ascontiguousarray(photo_pixels(image))
        last, levels, logits = self._images.run(["last", "levels", "logits"], {"pixels": pixels})
        return self._space.embed_features(join_features(last, levels), logits)

    def _project_texts(self, rows_NE: Matrix) -> Matrix:
        return self._space.embed_texts(rows_NE)

    @staticmethod
    def _prefix(rows_ND: Matrix, width: int) -> Matrix:
        return rows_ND if width == rows_ND.shape[1] else unit_rows(rows_ND[:, :width]).astype(np.float32)


def open_exported(folder: Path, text_tower: Path | None = None) -> OnnxEncoder:
    """Open an exported model.

    Args:
        folder: as ``export`` wrote it.
        text_tower: the folder of its exported text tower; beside ``folder`` under its digest, as in a store, if None.

    Raises:
        NotFound: a folder does not exist.
        IntegrityError: a file is missing or damaged.
        CapabilityError: onnxruntime is not installed.
    """
    settings = read_settings(folder)
    tower = text_tower or folder.parent / settings.text_tower
    check_tower(tower, settings.text_tower_digest)
    kinds = {PHOTO_TYPE: OnnxPhotoEncoder, OWN_TYPE: OnnxCaptioner if settings.max_caption_tokens else OnnxEncoder}
    if settings.source_type not in kinds:
        raise IntegrityError(f"{folder} was exported from a model of type {settings.source_type!r}", EXPORT_AGAIN)
    try:
        arrays = load_file(folder / ARRAYS)
        return kinds[settings.source_type](folder, settings, _text_tower(tower.resolve()), arrays)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"the arrays of {folder} cannot be read: {error}", EXPORT_AGAIN) from error


def _read_words(file: Path) -> list[str]:
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file} cannot be read", EXPORT_AGAIN) from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise IntegrityError(f"{file} is not a list of words", EXPORT_AGAIN)
    return words
