"""The frozen text tower: all-MiniLM-L6-v2 (Apache-2.0), a package on this machine that is verified by its digest.

Its weights are not part of a model folder; the folder's ``config.json`` has their digest instead.

Shape suffixes: N texts, T word pieces, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from clerestory.core.digest import digest
from clerestory.core.files import atomic_path, cache_folder
from clerestory.models.bert import load_bert
from clerestory.models.folder_check import MINILM_DIGEST
from clerestory.models.protocols import Matrix
from clerestory.models.text_batches import TextBatches
from clerestory.models.text_tower_files import MAX_TOKENS, find_text_tower
from clerestory.models.word_pieces import load_word_pieces


class TextTower(TextBatches):
    """Embeds texts into unit rows by mean pooling; deterministic for a given list of texts.

    Args:
        folder: a verified folder, as ``find_text_tower`` returns it.

    Attributes:
        network: BERT.
    """

    def __init__(self, folder: Path) -> None:
        self.network = load_bert(folder)
        super().__init__(load_word_pieces(folder), self.network.width)

    @torch.inference_mode()
    def _embed_ids(self, rows: Sequence[Sequence[int]]) -> Matrix:
        longest = max(map(len, rows))
        ids_NT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask_NT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        states_NTD = self.network(ids_NT, mask_NT)
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
