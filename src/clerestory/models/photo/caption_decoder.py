"""Caption drafts for photographs, by a decoder that was trained on the user's captions.

The decoder reads the embedding of a photograph, which the user's own head has brought near to the user's captions, as a
few tokens. Its beam search proposes captions; of these, the drafts are those that are both probable as a text and near
to the photograph in the space that both share.

Shape suffixes: N photographs, T image tokens, E width of an embedding without its first coordinate, W width of a token,
L caption positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clerestory.models.decoder import CaptionDecoder, DecoderSizes, beam_search
from clerestory.models.photo.caption_words import CaptionWords
from clerestory.models.photo.space import Floats
from clerestory.models.protocols import CaptionCandidate, Matrix

EmbedTexts = Callable[[Sequence[str]], Matrix]

IMAGE_TOKENS = 2
WIDTH, LAYERS, HEADS = 192, 2, 4
REPEATED = 3  # words
MAX_TOKENS = 24  # of a caption, begin and end tokens included
MIN_PROPOSALS, MAX_PROPOSALS = 5, 50
TINY = 1e-300
# Of the similarity to the photograph, beside the logarithm of the text's probability; 2 to 16 are equally good.
SIMILARITY_WEIGHT = 8.0


class PhotoCaptionDecoder(nn.Module):
    """A caption decoder on the embedding of a photograph.

    Args:
        vocab_size: V, special tokens included.
        embedding_width: E.
        dropout: in training.
    """

    def __init__(self, vocab_size: int, embedding_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = DecoderSizes(WIDTH, vocab_size, WIDTH, LAYERS, HEADS, MAX_TOKENS)
        self.from_embedding = nn.Linear(embedding_width, IMAGE_TOKENS * WIDTH)
        self.decoder = CaptionDecoder(self.sizes, dropout)
        self.dropout = nn.Dropout(dropout)

    def image_tokens(self, embeddings_NE: Tensor) -> Tensor:
        """The tokens ``(N, T, W)`` of unit rows."""
        scaled_NE = embeddings_NE * math.sqrt(embeddings_NE.shape[1])  # so that a coordinate is about 1
        tokens_NTW: Tensor = self.dropout(self.from_embedding(scaled_NE).unflatten(1, (IMAGE_TOKENS, -1)))
        return tokens_NTW

    def forward(self, ids_NL: Tensor, embeddings_NE: Tensor) -> Tensor:
        """Logits ``(N, L, V)``: position ``l`` predicts word ``l + 1``."""
        logits_NLV: Tensor = self.decoder(ids_NL, self.image_tokens(embeddings_NE))
        return logits_NLV


class TrainedDecoder(NamedTuple):
    """A decoder in evaluation mode, and its vocabulary."""

    decoder: PhotoCaptionDecoder
    words: CaptionWords


@torch.inference_mode()
def draft_captions(
    decoder: PhotoCaptionDecoder,
    words: CaptionWords,
    embed_texts: EmbedTexts,
    embedding_E: Floats,
    n: int,
) -> list[CaptionCandidate]:
    """Up to ``n`` captions of a photograph, best first, by probability and similarity to the photograph.

    Args:
        decoder: in evaluation mode.
        words: its vocabulary.
        embed_texts: of the model.
        embedding_E: of the photograph, without its first coordinate.
        n: at least 1.
    """
    tokens_1TW = decoder.image_tokens(torch.from_numpy(np.asarray(embedding_E, np.float32))[None])
    proposed = beam_search(decoder.decoder, tokens_1TW, decoder.sizes, min(max(n, MIN_PROPOSALS), MAX_PROPOSALS))[0]
    fluent = [(ids, probability) for ids, probability in proposed if not repeats_itself(ids)] or proposed
    captions = [CaptionCandidate(words.text(ids), probability) for ids, probability in fluent]
    similarities = embed_texts([caption.text for caption in captions])[:, 1:] @ embedding_E
    scores = [math.log(max(c.score, TINY)) + SIMILARITY_WEIGHT * s for c, s in zip(captions, similarities, strict=True)]
    return [captions[i] for i in sorted(range(len(captions)), key=lambda i: -scores[i])][:n]


def repeats_itself(ids: Sequence[int]) -> bool:
    """Whether three words in a row occur twice, as in "in white and red and white and red"."""
    triples = [tuple(ids[i : i + REPEATED]) for i in range(len(ids) - REPEATED + 1)]
    return len(set(triples)) < len(triples)
