"""The configuration of the architecture, saved as Hugging Face's ``config.json``."""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import inspect
import math
from functools import lru_cache
from typing import Any, Literal, get_type_hints

from transformers import PreTrainedConfig

from clerestory.models.folder_check import MINILM_DIGEST, OWN_TYPE

EXPERT_CHOICES = {
    "expert_kind": ("gelu", "swiglu"),
    "expert_gate": ("softmax", "sigmoid"),
    "expert_balance": ("loss", "bias", "both"),
}
# Largest values that are read, so that a damaged file cannot take all memory or run for hours.
MAX_SIZE = 65_536
MAX_WORDS = 1_000_000
MAX_LAYERS = 1_000  # and experts
MAX_COUNTS = ("layers", "decoder_layers", "experts", "shared_experts", "decoder_experts")
ZERO_ALLOWED = ("experts", "shared_experts", "decoder_experts", "pad_token_id", "bos_token_id", "eos_token_id")


class ClerestoryConfig(PreTrainedConfig):
    """Sizes of every component of the model, and the digest of its text tower.

    Attributes:
        preset: the preset it is based on; empty without one.
        image_size: side of the square image in pixels.
        stem_channels: channels after each stride-2 convolution; their number determines the grid of tokens.
        stem_residuals: residual blocks after each of those convolutions.
        width, layers, heads, mlp_ratio: of the image tower's Transformer blocks.
        experts: number of experts in each block; 0 means a dense MLP.
        experts_per_token: how many of them each token is routed to.
        expert_kind: ``gelu`` or ``swiglu``.
        expert_split: whether ``experts_per_token`` experts together are as wide as the dense MLP (equal cost per
            token); otherwise each of them is.
        expert_bias: whether the linear layers of the experts have biases, as those of the dense MLP.
        expert_gate: ``softmax`` or ``sigmoid``.
        expert_scale: the sum of a token's gate values.
        shared_experts: number of additional experts that every token is routed to.
        expert_balance: ``loss`` (Switch), ``bias`` (loss-free) or ``both``.
        expert_z_weight: weight of the router's z-loss.
        decoder_experts: number of experts in each block of the caption decoder; 0 means dense.
        text_dim: width of the text tower's embeddings and of the shared space.
        nested_dims: widths of the prefixes that are trained to be embeddings too (Matryoshka).
        text_tower_digest: SHA-256 of the required text-tower weights.
        decoder_width, decoder_layers, decoder_heads: of the caption decoder.
        logit_scale: factor of the similarities before a softmax over texts, 1 / the temperature of training.
        vocab_size: vocabulary size of the decoder, special tokens included.
        max_caption_tokens: longest caption, begin and end tokens included.
    """

    model_type = OWN_TYPE

    def __init__(
        self,
        preset: str = "",
        image_size: int = 32,
        stem_channels: tuple[int, ...] = (32, 64, 128, 256),
        stem_residuals: tuple[int, ...] = (0, 1, 1, 0),
        width: int = 256,
        layers: int = 3,
        heads: int = 4,
        mlp_ratio: int = 4,
        experts: int = 0,
        experts_per_token: int = 2,
        expert_kind: Literal["gelu", "swiglu"] = "gelu",
        expert_split: bool = True,
        expert_bias: bool = False,
        expert_gate: Literal["softmax", "sigmoid"] = "softmax",
        expert_scale: float = 1.0,
        shared_experts: int = 0,
        expert_balance: Literal["loss", "bias", "both"] = "loss",
        expert_z_weight: float = 0.0,
        decoder_experts: int = 0,
        text_dim: int = 384,
        nested_dims: tuple[int, ...] = (64, 128, 256, 384),
        text_tower_digest: str = MINILM_DIGEST,
        logit_scale: float = 20.0,
        decoder_width: int = 192,
        decoder_layers: int = 2,
        decoder_heads: int = 4,
        vocab_size: int = 8,
        max_caption_tokens: int = 16,
        initializer_range: float = 0.02,
        pad_token_id: int = 0,
        bos_token_id: int = 1,
        eos_token_id: int = 2,
        **kwargs: Any,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in _types()}
        _check_types(given)
        self.preset = preset
        self.image_size = image_size
        self.stem_channels = list(stem_channels)
        self.stem_residuals = list(stem_residuals)
        self.width = width
        self.layers = layers
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.experts = experts
        self.experts_per_token = experts_per_token
        self.expert_kind = expert_kind
        self.expert_split = expert_split
        self.expert_bias = expert_bias
        self.expert_gate = expert_gate
        self.expert_scale = expert_scale
        self.shared_experts = shared_experts
        self.expert_balance = expert_balance
        self.expert_z_weight = expert_z_weight
        self.decoder_experts = decoder_experts
        self.text_dim = text_dim
        self.nested_dims = list(nested_dims)
        self.text_tower_digest = text_tower_digest
        self.logit_scale = logit_scale
        self.decoder_width = decoder_width
        self.decoder_layers = decoder_layers
        self.decoder_heads = decoder_heads
        self.vocab_size = vocab_size
        self.max_caption_tokens = max_caption_tokens
        self.initializer_range = initializer_range
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        _check(self)
        super().__init__(**kwargs)

    @property
    def grid(self) -> int:
        """Side of the grid of image tokens."""
        return int(self.image_size // 2 ** len(self.stem_channels))


@lru_cache(maxsize=1)
def _types() -> dict[str, Any]:
    """The type of each setting."""
    hints = get_type_hints(ClerestoryConfig.__init__)
    named = inspect.signature(ClerestoryConfig.__init__).parameters
    return {name: hints[name] for name in named if name not in ("self", "kwargs")}


def _check_types(settings: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a setting of another type, or a size that no model has."""
    for name, value in settings.items():
        kind = _types()[name]
        if kind == tuple[int, ...]:
            lowest = 0 if name == "stem_residuals" else 1
            fits = isinstance(value, list | tuple) and all(_is_size(each, lowest) for each in value) and len(value) > 0
            expected = "a list of positive whole numbers" if lowest else "a list of whole numbers"
        elif kind is int:
            highest = MAX_LAYERS if name in MAX_COUNTS else MAX_WORDS if name == "vocab_size" else MAX_SIZE
            fits = _is_size(value, 0 if name in ZERO_ALLOWED else 1, highest)
            expected = "a whole number of a usual size"
        elif kind is float:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            expected = "a finite number"
        elif kind is bool:
            fits, expected = isinstance(value, bool), "true or false"
        else:
            fits, expected = isinstance(value, str), "a text"
        if not fits:
            raise ValueError(f"{name} must be {expected}, not {value!r:.60}")


def _is_size(value: Any, lowest: int, highest: int = MAX_SIZE) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _check(config: ClerestoryConfig) -> None:
    """Raise ``ValueError`` for inconsistent settings."""
    if len(config.stem_channels) != len(config.stem_residuals):
        raise ValueError("stem_channels and stem_residuals need one entry for each stride-2 convolution")
    if config.image_size % 2 ** len(config.stem_channels):
        raise ValueError(f"image_size {config.image_size} cannot be halved {len(config.stem_channels)} times")
    if config.width % config.heads or config.decoder_width % config.decoder_heads:
        raise ValueError("width must be a multiple of heads, and decoder_width a multiple of decoder_heads")
    for experts in (config.experts, config.decoder_experts):
        if experts and not 1 <= config.experts_per_token <= experts:
            raise ValueError(f"experts_per_token must be 1..{experts}, not {config.experts_per_token}")
    for name, choices in EXPERT_CHOICES.items():
        if getattr(config, name) not in choices:
            raise ValueError(f"{name} must be {' or '.join(choices)}, not {getattr(config, name)}")
    if not config.logit_scale > 0:
        raise ValueError(f"logit_scale must be positive, not {config.logit_scale}")
    if config.nested_dims != sorted(set(config.nested_dims)) or config.nested_dims[-1] != config.text_dim:
        raise ValueError(f"nested_dims must ascend to text_dim {config.text_dim}, but are {config.nested_dims}")
