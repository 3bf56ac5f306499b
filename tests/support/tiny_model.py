"""A tiny model for tests: random image tower and decoder, the real text tower."""

from __future__ import annotations

from pathlib import Path

import torch

from clerestory.core.sample import Dataset
from clerestory.models import (
    ClerestoryConfig,
    ClerestoryImageProcessor,
    ClerestoryModel,
    ClerestoryProcessor,
    load_text_tower,
    make_tokenizer,
    save_model,
)
from clerestory.models.projection import principal_axes

WORDS = ("red heart", "cat face", "hot beverage", "flag: France", "smiling face with open hands", "violin")


def tiny_config(**changes: object) -> ClerestoryConfig:
    """Sizes small enough for any test."""
    sizes: dict[str, object] = {
        "preset": "tiny",
        "image_size": 32,
        "stem_channels": (4, 8, 16),
        "stem_residuals": (0, 1, 0),
        "width": 32,
        "layers": 1,
        "heads": 2,
        "mlp_ratio": 2,
        "decoder_width": 32,
        "decoder_layers": 1,
        "decoder_heads": 2,
    }
    return ClerestoryConfig(**(sizes | changes))  # type: ignore[arg-type]  # values are checked by the class


def make_tiny_model(folder: Path, data: Dataset | None = None, seed: int = 0) -> Path:
    """Save a tiny model that ``open_model`` can open; its words are those of the data's training captions."""
    train = [s for s in data if s.split in ("", "train")] if data is not None else []
    captions = sorted({s.caption for s in train if s.caption}) or list(WORDS)
    tokenizer = make_tokenizer(captions)
    torch.manual_seed(seed)
    network = ClerestoryModel(tiny_config(vocab_size=len(tokenizer)))
    network.projection.set_rotation(principal_axes(load_text_tower().embed(captions[:200])))
    side = network.config.image_size
    processor = ClerestoryProcessor(ClerestoryImageProcessor(size={"height": side, "width": side}), tokenizer)
    return save_model(network, processor, folder)
