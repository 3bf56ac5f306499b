"""Captions from image tokens: a small Transformer decoder with cross-attention, and its beam search.

Shape suffixes: B images, T image tokens, L caption positions, D decoder width, V vocabulary, S heads, Q head width,
W beams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from clerestory.models.config import ClerestoryConfig

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class DecoderSizes:
    """The part of ``ClerestoryConfig`` that a dense decoder needs outside a ``ClerestoryModel``.

    Attributes:
        width: of the image tokens.
        vocab_size: vocabulary size, special tokens included.
        decoder_width, decoder_layers, decoder_heads: of the decoder.
        max_caption_tokens: longest caption, begin and end tokens included.
    """

    width: int
    vocab_size: int
    decoder_width: int
    decoder_layers: int
    decoder_heads: int
    max_caption_tokens: int
    decoder_experts: int = 0
    pad_token_id: int = PAD
    bos_token_id: int = BEGIN
    eos_token_id: int = END


class _MultiHeadAttention(nn.Module):
    """Multi-head attention of one sequence over another, or causal over itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, source_BTD: Tensor, causal: bool, attention_mask: Tensor | None = None) -> Tensor:
        batch, length, width = x_BLD.shape
        size = width // self.heads
        q_BSLQ = self.query(x_BLD).view(batch, length, self.heads, size).transpose(1, 2)
        pair = self.key_value(source_BTD).view(batch, source_BTD.shape[1], 2, self.heads, size)
        k_BSTQ, v_BSTQ = pair.permute(2, 0, 3, 1, 4)
        causal = causal and attention_mask is None
        y_BSLQ = F.scaled_dot_product_attention(q_BSLQ, k_BSTQ, v_BSTQ, attn_mask=attention_mask, is_causal=causal)
        return cast(Tensor, self.out(y_BSLQ.transpose(1, 2).reshape(batch, length, width)))


class _DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention to the image tokens, MLP or mixture of experts; all pre-norm."""

    def __init__(self, config: ClerestoryConfig | DecoderSizes, dropout: float) -> None:
        super().__init__()
        width, heads = config.decoder_width, config.decoder_heads
        self.dropout = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(width)
        self.past = _MultiHeadAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.image = _MultiHeadAttention(width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.mlp: nn.Module | None = None
        if config.decoder_experts:
            # Here, as it imports transformers, which a dense decoder does not need.
            from clerestory.models.moe import TEXT
            from clerestory.models.moe_factory import make_mixture

            self.mlp = make_mixture(cast("ClerestoryConfig", config), width, 4 * width, config.decoder_experts, TEXT)
        else:
            self.up = nn.Linear(width, 4 * width)
            self.down = nn.Linear(4 * width, width)

    def forward(
        self, x_BLD: Tensor, image_BTD: Tensor, valid_BL: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        h_BLD = self.norm1(x_BLD)
        x_BLD = x_BLD + self.dropout(self.past(h_BLD, h_BLD, causal=True, attention_mask=attention_mask))
        x_BLD = x_BLD + self.dropout(self.image(self.norm2(x_BLD), image_BTD, causal=False))
        h_BLD = self.norm3(x_BLD)
        if self.mlp is None:
            return x_BLD + self.dropout(self.down(F.gelu(self.up(h_BLD)))), None
        y_BLD, balance = self.mlp(h_BLD, valid_BL)
        return x_BLD + self.dropout(y_BLD), balance


class CaptionDecoder(nn.Module):
    """Next-word logits from the previous words and the image tokens; input and output embeddings are tied.

    Args:
        config: sizes and special tokens.
        dropout: in training, of what each part of a block adds and of the inputs of the output layer.

    Attributes:
        mask_token_id: the token at every position when a caption is decoded in parallel from the image alone (CapPa).
    """

    def __init__(self, config: ClerestoryConfig | DecoderSizes, dropout: float = 0.0) -> None:
        super().__init__()
        width = config.decoder_width
        self.dropout = nn.Dropout(dropout)
        self.pad_token_id = config.pad_token_id
        # A caption decoded in parallel consists of mask tokens only, so the unknown word can serve as the mask token:
        # the vocabulary needs no extra entry.
        self.mask_token_id = UNKNOWN
        self.words = nn.Embedding(config.vocab_size, width)
        self.position_LD = nn.Parameter(torch.empty(config.max_caption_tokens, width))
        self.from_image = nn.Linear(config.width, width)
        self.blocks = nn.ModuleList(_DecoderBlock(config, dropout) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids_BL: Tensor, image_BTD: Tensor) -> Tensor:
        """Logits ``(B, L, V)``: position ``l`` predicts word ``l + 1``."""
        return self.decode(ids_BL, image_BTD)[0]

    def decode(self, ids_BL: Tensor, image_BTD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the mean load-balance loss of the blocks (None when dense), which excludes padding."""
        hidden_BLD, balance = self.states(ids_BL, image_BTD)
        return F.linear(hidden_BLD, self.words.weight), balance

    def states(
        self, ids_BL: Tensor, image_BTD: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The inputs of the output layer, ``(B, L, D)``, and the load-balance loss, as in ``decode``.

        Args:
            ids_BL: word ids; ``mask_token_id`` at every position for parallel decoding from the image alone.
            image_BTD: image tokens.
            attention_mask: ``(B, 1, L, L)``, True where a position may attend; causal if None.
        """
        source_BTD = self.from_image(image_BTD)
        x_BLD = self.words(ids_BL) + self.position_LD[: ids_BL.shape[1]]
        valid_BL, losses = ids_BL != self.pad_token_id, []
        for block in self.blocks:
            x_BLD, balance = block(x_BLD, source_BTD, valid_BL, attention_mask)
            if balance is not None:
                losses.append(balance)
        return self.dropout(self.norm(x_BLD)), torch.stack(losses).mean() if losses else None


@torch.inference_mode()
def beam_search(
    decoder: CaptionDecoder, image_BTD: Tensor, config: ClerestoryConfig | DecoderSizes, n: int
) -> list[list[tuple[list[int], float]]]:
    """For each image up to ``n`` distinct word sequences with their scores, best first.

    The score is the geometric mean of the probabilities of the words and the end token, so that long captions are not
    penalised. Padding, the begin token and the unknown word are never generated.

    Args:
        decoder: in evaluation mode.
        image_BTD: image tokens.
        config: special tokens and the longest caption.
        n: number of sequences to return; the beam is wider than that.

    Returns:
        For each image ``(ids without special tokens, score in 0..1)``.
    """
    return [_search_one(decoder, image_TD, config, n) for image_TD in image_BTD]


def _search_one(
    decoder: CaptionDecoder, image_TD: Tensor, config: ClerestoryConfig | DecoderSizes, n: int
) -> list[tuple[list[int], float]]:
    width = min(max(2 * n, 5), config.vocab_size - 3)
    end, excluded = config.eos_token_id, [config.pad_token_id, config.bos_token_id, UNKNOWN]
    ids_WL = torch.full((1, 1), config.bos_token_id)
    logp_W = torch.zeros(1)
    finished: list[tuple[list[int], float]] = []
    for length in range(1, config.max_caption_tokens):
        logits_WV = decoder(ids_WL, image_TD.expand(ids_WL.shape[0], -1, -1))[:, -1]
        step_WV = F.log_softmax(logits_WV.float(), dim=-1)
        step_WV[:, excluded] = -math.inf
        step_WV.scatter_(1, ids_WL[:, -1:], -math.inf)  # no word twice in a row
        if length == 1:
            step_WV[:, end] = -math.inf  # no empty caption
        if length == config.max_caption_tokens - 1:
            end_W = step_WV[:, end].clone()  # maximum length: every beam must end
            step_WV.fill_(-math.inf)
            step_WV[:, end] = end_W
        total_WV = logp_W[:, None] + step_WV
        values, flat = total_WV.flatten().topk(min(2 * width, total_WV.numel()))
        rows, words = flat // total_WV.shape[1], flat % total_WV.shape[1]
        beams: list[tuple[int, int, float]] = []
        for value, row, word in zip(values.tolist(), rows.tolist(), words.tolist(), strict=True):
            if value == -math.inf:
                continue
            if word == end:
                finished.append((ids_WL[row, 1:].tolist(), math.exp(value / length)))
            elif len(beams) < width:
                beams.append((row, word, value))
        if not beams or _is_settled(finished, beams[0][2], n, config.max_caption_tokens):
            break
        parents = torch.tensor([row for row, _, _ in beams])
        ids_WL = torch.cat([ids_WL[parents], torch.tensor([[word] for _, word, _ in beams])], dim=1)
        logp_W = torch.tensor([value for _, _, value in beams])
    return sorted(finished, key=lambda pair: (-pair[1], pair[0]))[:n]


def _is_settled(finished: list[tuple[list[int], float]], best_beam: float, n: int, max_length: int) -> bool:
    """Whether no unfinished beam can still reach the best ``n``: each further word can only reduce the probability."""
    if len(finished) < n:
        return False
    nth = sorted((score for _, score in finished), reverse=True)[n - 1]
    return math.exp(best_beam / max_length) <= nth
