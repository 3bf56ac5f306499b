"""Captions from image tokens: a small Transformer decoder with cross-attention, and its beam search.

Shape suffixes: B pictures, T image tokens, L caption positions, D decoder width, V vocabulary, S heads, Q head width,
W beams.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.models.config import ClerestoryConfig
from clerestory.models.moe import TEXT
from clerestory.models.moe_factory import mixture

UNKNOWN = 3


class _Attention(nn.Module):
    """Multi-head attention of one sequence over another, or over its own past."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, source_BTD: Tensor, causal: bool, may_see: Tensor | None = None) -> Tensor:
        batch, length, width = x_BLD.shape
        size = width // self.heads
        q_BSLQ = self.query(x_BLD).view(batch, length, self.heads, size).transpose(1, 2)
        pair = self.key_value(source_BTD).view(batch, source_BTD.shape[1], 2, self.heads, size)
        k_BSTQ, v_BSTQ = pair.permute(2, 0, 3, 1, 4)
        causal = causal and may_see is None
        y_BSLQ = F.scaled_dot_product_attention(q_BSLQ, k_BSTQ, v_BSTQ, attn_mask=may_see, is_causal=causal)
        return cast(Tensor, self.out(y_BSLQ.transpose(1, 2).reshape(batch, length, width)))


class _Block(nn.Module):
    """Causal self-attention, cross-attention to the image tokens, MLP or mixture of experts; all pre-norm."""

    def __init__(self, config: ClerestoryConfig) -> None:
        super().__init__()
        width, heads = config.decoder_width, config.decoder_heads
        self.norm1 = nn.LayerNorm(width)
        self.past = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.image = _Attention(width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.mlp: nn.Module | None = None
        if config.decoder_experts:
            self.mlp = mixture(config, width, 4 * width, config.decoder_experts, TEXT)
        else:
            self.up = nn.Linear(width, 4 * width)
            self.down = nn.Linear(4 * width, width)

    def forward(
        self, x_BLD: Tensor, image_BTD: Tensor, kept_BL: Tensor, may_see: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        h_BLD = self.norm1(x_BLD)
        x_BLD = x_BLD + self.past(h_BLD, h_BLD, causal=True, may_see=may_see)
        x_BLD = x_BLD + self.image(self.norm2(x_BLD), image_BTD, causal=False)
        h_BLD = self.norm3(x_BLD)
        if self.mlp is None:
            return x_BLD + self.down(F.gelu(self.up(h_BLD))), None
        y_BLD, balance = self.mlp(h_BLD, kept_BL)
        return x_BLD + y_BLD, balance


class CaptionDecoder(nn.Module):
    """Next-word logits from the words so far and the image tokens; input and output embeddings are one matrix.

    Args:
        config: sizes and special tokens.
    """

    def __init__(self, config: ClerestoryConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.padding = config.pad_token_id
        # A caption to be said from the picture alone consists of masks and of nothing else, so the unknown word, whose
        # meaning is "something", can stand for them and no model needs a word more.
        self.mask = UNKNOWN
        self.words = nn.Embedding(config.vocab_size, width)
        self.position_LD = nn.Parameter(torch.empty(config.max_caption_tokens, width))
        self.from_image = nn.Linear(config.width, width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids_BL: Tensor, image_BTD: Tensor) -> Tensor:
        """Logits ``(B, L, V)``: position ``l`` predicts word ``l + 1``."""
        return self.decode(ids_BL, image_BTD)[0]

    def decode(self, ids_BL: Tensor, image_BTD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the mean load-balance loss of the blocks (None when dense); padding is left out of it."""
        hidden_BLD, balance = self.states(ids_BL, image_BTD)
        return F.linear(hidden_BLD, self.words.weight), balance

    def states(self, ids_BL: Tensor, image_BTD: Tensor, may_see: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What enters the output layer, ``(B, L, D)``, and the load-balance loss as ``decode`` gives it.

        Args:
            ids_BL: the words; ``mask`` at every position of a caption that is to be said from the picture alone.
            image_BTD: image tokens.
            may_see: ``(B, 1, L, L)``, True where a position may look; each sees its past when left out.
        """
        source_BTD = self.from_image(image_BTD)
        x_BLD = self.words(ids_BL) + self.position_LD[: ids_BL.shape[1]]
        kept_BL, losses = ids_BL != self.padding, []
        for block in self.blocks:
            x_BLD, balance = block(x_BLD, source_BTD, kept_BL, may_see)
            if balance is not None:
                losses.append(balance)
        return self.norm(x_BLD), torch.stack(losses).mean() if losses else None


@torch.inference_mode()
def beam_search(
    decoder: CaptionDecoder, image_BTD: Tensor, config: ClerestoryConfig, n: int
) -> list[list[tuple[list[int], float]]]:
    """For each picture up to ``n`` different word sequences with their scores, best first.

    The score is the geometric mean of the probabilities of the words and of the end mark, so a long caption is not
    punished for its length. Padding, the start mark and the unknown word are never proposed.

    Args:
        decoder: in evaluation mode.
        image_BTD: image tokens.
        config: special tokens and the longest caption.
        n: how many to return; the beam is a little wider.

    Returns:
        For each picture ``(ids without marks, score in 0..1)``.
    """
    return [_search_one(decoder, image_TD, config, n) for image_TD in image_BTD]


def _search_one(
    decoder: CaptionDecoder, image_TD: Tensor, config: ClerestoryConfig, n: int
) -> list[tuple[list[int], float]]:
    width = min(max(2 * n, 5), config.vocab_size - 3)
    end, barred = config.eos_token_id, [config.pad_token_id, config.bos_token_id, UNKNOWN]
    ids_WL = torch.full((1, 1), config.bos_token_id)
    logp_W = torch.zeros(1)
    done: list[tuple[list[int], float]] = []
    for length in range(1, config.max_caption_tokens):
        logits_WV = decoder(ids_WL, image_TD.expand(ids_WL.shape[0], -1, -1))[:, -1]
        step_WV = F.log_softmax(logits_WV.float(), dim=-1)
        step_WV[:, barred] = -math.inf
        step_WV.scatter_(1, ids_WL[:, -1:], -math.inf)  # no word twice in a row
        if length == 1:
            step_WV[:, end] = -math.inf  # an empty caption says nothing
        if length == config.max_caption_tokens - 1:
            keep_W = step_WV[:, end].clone()  # no room left: every beam ends here
            step_WV.fill_(-math.inf)
            step_WV[:, end] = keep_W
        total_WV = logp_W[:, None] + step_WV
        best, flat = total_WV.flatten().topk(min(2 * width, total_WV.numel()))
        rows, words = flat // total_WV.shape[1], flat % total_WV.shape[1]
        open_: list[tuple[int, int, float]] = []
        for value, row, word in zip(best.tolist(), rows.tolist(), words.tolist(), strict=True):
            if value == -math.inf:
                continue
            if word == end:
                done.append((ids_WL[row, 1:].tolist(), math.exp(value / length)))
            elif len(open_) < width:
                open_.append((row, word, value))
        if not open_ or _settled(done, open_[0][2], n, config.max_caption_tokens):
            break
        picked = torch.tensor([row for row, _, _ in open_])
        ids_WL = torch.cat([ids_WL[picked], torch.tensor([[word] for _, word, _ in open_])], dim=1)
        logp_W = torch.tensor([value for _, _, value in open_])
    return sorted(done, key=lambda pair: (-pair[1], pair[0]))[:n]


def _settled(done: list[tuple[list[int], float]], best_open: float, n: int, longest: int) -> bool:
    """Whether no open beam can still reach the best ``n``: each further word can only cost probability."""
    if len(done) < n:
        return False
    nth = sorted((score for _, score in done), reverse=True)[n - 1]
    return math.exp(best_open / longest) <= nth
