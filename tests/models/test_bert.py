"""The text tower's own BERT against the one of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from clerestory.models.bert import load_bert
from clerestory.models.text_tower_files import find_text_tower


@pytest.fixture(scope="module", params=["small", "minilm"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "minilm":
        return find_text_tower()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=48,
        layer_norm_eps=1e-5,
    )
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("lengths", [(7,), (9, 9), (1, 40, 12)], ids=["one", "no-padding", "padding"])
def test_it_computes_the_same_bits_as_transformers(folder: Path, lengths: tuple[int, ...]) -> None:
    own = load_bert(folder)
    theirs = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    generator = torch.Generator().manual_seed(1)
    longest = max(lengths)
    mask = torch.tensor([[1] * length + [0] * (longest - length) for length in lengths])
    ids = torch.randint(1, 100, mask.shape, generator=generator) * mask
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        actual = own(ids, mask)
    kept = mask.bool()
    assert actual[kept].abs().max() > 0.1
    assert torch.equal(actual[kept], expected[kept])
