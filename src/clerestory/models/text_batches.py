"""Texts to unit rows in batches of similar length, whatever runs the network of the text tower.

Shape suffixes: N texts, T word pieces, D width of the embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from clerestory.models.languages import whole_words
from clerestory.models.protocols import Matrix
from clerestory.models.text_tower_files import MAX_TOKENS


class TextBatches(ABC):
    """Tokenizes texts and embeds them in batches; deterministic for a given list of texts.

    Args:
        tokenizer: without padding and truncation.
        width: D.

    Attributes:
        vocabulary: the words that the tokenizer does not split.
        num_truncated: number of texts so far that were longer than ``MAX_TOKENS`` and were truncated.
    """

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        self._tokenizer = tokenizer
        self._width = width
        self.vocabulary = whole_words(tokenizer.get_vocab())
        self.num_truncated = 0

    def embed(self, texts: Sequence[str], batch_size: int = 128) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        self.num_truncated += sum(len(row) > MAX_TOKENS for row in encoded)
        # A truncated text still ends with the end token.
        ids = [row if len(row) <= MAX_TOKENS else [*row[: MAX_TOKENS - 1], row[-1]] for row in encoded]
        out_ND = np.zeros((len(ids), self._width), np.float32)
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            out_ND[rows] = self._embed_ids([ids[i] for i in rows])
        return out_ND

    def count_truncated(self, texts: Sequence[str]) -> int:
        """The number of texts that are longer than ``MAX_TOKENS``."""
        return sum(len(encoding.ids) > MAX_TOKENS for encoding in self._tokenizer.encode_batch(list(texts)))

    @abstractmethod
    def _embed_ids(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """Unit rows ``(N, D)`` of texts as word pieces, by mean pooling."""
