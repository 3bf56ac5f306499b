"""Mixture of experts, projection, image tower, decoder, processor: each against an oracle or a property."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.images import noise_images
from tests.support.tiny_model import tiny_config
from torch.nn import functional as F

from clerestory.core.errors import NotFound
from clerestory.models import PRESETS, ClerestoryConfig, ClerestoryModel, make_tokenizer, preset_config
from clerestory.models.adapters.loading import model_input
from clerestory.models.decoder import UNKNOWN, beam_search
from clerestory.models.moe import MixtureOfExperts
from clerestory.models.pixels import pad_to_square, to_pixels
from clerestory.models.projection import principal_axes


def filled(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter normally distributed."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.3)
    return module


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(4, 2, 37), (3, 1, 5), (8, 8, 4), (6, 2, 1)])
def test_mixture_equals_the_naive_loop(experts: int, top_k: int, tokens: int) -> None:
    moe = filled(MixtureOfExperts(8, 12, experts, top_k))
    assert isinstance(moe, MixtureOfExperts)
    x = torch.randn(tokens, 8, generator=torch.Generator().manual_seed(1))
    probabilities = F.softmax(x @ moe.gate.weight.T, dim=-1)
    weights, index = probabilities.topk(top_k, dim=-1)
    expected = torch.zeros_like(x)
    for n in range(tokens):
        for k in range(top_k):
            e = int(index[n, k])
            y = moe.down_EDF[e] @ F.gelu(moe.up_EFD[e] @ x[n])
            expected[n] += weights[n, k] / weights[n].sum() * y
    got, _ = moe(x)
    torch.testing.assert_close(got, expected)


def test_mixture_drops_no_token_when_all_want_one_expert() -> None:
    moe = filled(MixtureOfExperts(4, 4, 5, 1))
    assert isinstance(moe, MixtureOfExperts)
    with torch.no_grad():
        moe.gate.weight.zero_()
        moe.gate.weight[3] = 1.0
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    y, balance = moe(x)
    torch.testing.assert_close(y, F.gelu(x @ moe.up_EFD[3].T) @ moe.down_EDF[3].T)
    assert balance > 1.2


def test_balance_loss_is_one_when_balanced_and_teaches_the_gate() -> None:
    moe = MixtureOfExperts(4, 4, 4, 1)
    filled(moe)
    with torch.no_grad():
        moe.gate.weight.copy_(torch.eye(4) * 20)
    x = torch.eye(4).repeat(8, 1)
    _, balance = moe(x)
    assert balance.item() == pytest.approx(1.0, abs=1e-4)
    filled(moe, seed=3)
    _, balance = moe(torch.randn(64, 4, generator=torch.Generator().manual_seed(2)))
    balance.backward()
    assert moe.gate.weight.grad is not None
    assert moe.gate.weight.grad.abs().max() > 0


def test_principal_axes_keep_similarities_and_order_strength() -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(200, 12)) * np.linspace(3, 0.1, 12)).astype(np.float32)
    rows = (rows @ np.linalg.qr(random.normal(size=(12, 12)))[0]).astype(np.float32)
    axes = principal_axes(rows)
    np.testing.assert_allclose(axes.T @ axes, np.eye(12), atol=1e-5)
    turned = rows @ axes
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-3)
    strength = (turned**2).sum(axis=0)
    assert (np.diff(strength) <= 1e-3).all()
    np.testing.assert_array_equal(axes, principal_axes(rows))


def test_the_model_with_experts_runs_and_reports_its_balance() -> None:
    torch.manual_seed(0)
    model = ClerestoryModel(tiny_config(experts=4, experts_per_token=2))
    out = model(torch.zeros(3, 3, 32, 32), caption_ids=torch.tensor([[1, 4, 2], [1, 5, 2]]))
    assert out.caption_logits.shape == (2, 3, 8)
    assert out.balance_loss is not None
    torch.testing.assert_close(out.image_embeds.norm(dim=-1), torch.ones(3))
    dense = ClerestoryModel(tiny_config())(torch.zeros(3, 3, 32, 32))
    assert dense.balance_loss is None


def test_presets_build_and_unknown_ones_are_named() -> None:
    for name in PRESETS:
        with torch.device("meta"):
            model = ClerestoryModel(preset_config(name, vocab_size=100))
        assert model.config.preset == name
    with pytest.raises(NotFound, match="nano"):
        preset_config("nanoo")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_size": 30}, "halved"),
        ({"width": 33}, "multiple"),
        ({"nested_dims": (64, 32, 384)}, "ascend"),
        ({"experts": 2, "experts_per_token": 3}, "experts_per_token"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**setting)


def test_config_survives_its_json(tmp_path: Path) -> None:
    config = tiny_config(experts=2, vocab_size=77)
    config.save_pretrained(tmp_path)
    again = ClerestoryConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict() | {"transformers_version": again.transformers_version}


def test_the_decoder_sees_only_the_past() -> None:
    torch.manual_seed(0)
    model = ClerestoryModel(tiny_config(vocab_size=20)).eval()
    tokens = torch.randn(1, 16, 32)
    one = model.decoder(torch.tensor([[1, 5, 6, 7]]), tokens)
    two = model.decoder(torch.tensor([[1, 5, 9, 9]]), tokens)
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2], two[:, 2])


def test_beam_search_scores_are_the_models_own_probabilities_and_texts_differ() -> None:
    torch.manual_seed(3)
    model = ClerestoryModel(tiny_config(vocab_size=12, max_caption_tokens=6)).eval()
    filled(model.decoder, seed=5)
    tokens = torch.randn(2, 16, 32)
    for image, found in zip(tokens, beam_search(model.decoder, tokens, model.config, 3), strict=True):
        assert len({tuple(ids) for ids, _ in found}) == len(found) == 3
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        for ids, score in found:
            assert not {0, 1, 2, UNKNOWN} & set(ids)
            whole = torch.tensor([[1, *ids, 2]])
            logp = F.log_softmax(model.decoder(whole, image[None]), dim=-1)[0]
            steps = [logp[i, word].item() for i, word in enumerate([*ids, 2])]
            assert score == pytest.approx(math.exp(sum(steps) / len(steps)), rel=1e-4)


def test_beam_search_finds_the_best_caption_of_an_exhaustive_search() -> None:
    torch.manual_seed(0)
    model = ClerestoryModel(tiny_config(vocab_size=7, max_caption_tokens=4)).eval()
    filled(model.decoder, seed=2)
    tokens = torch.randn(1, 16, 32)
    words = (4, 5, 6)
    captions = [[a] for a in words] + [[a, b] for a in words for b in words if a != b]

    def score(ids: list[int]) -> float:
        logp = F.log_softmax(model.decoder(torch.tensor([[1, *ids, 2]]), tokens), dim=-1)[0]
        return math.exp(sum(logp[i, w].item() for i, w in enumerate([*ids, 2])) / (len(ids) + 1))

    best = max(captions, key=score)
    assert beam_search(model.decoder, tokens, model.config, 4)[0][0][0] == best


def test_tokenizer_gives_captions_back_and_knows_only_their_words() -> None:
    tokenizer = make_tokenizer(["flag: Côte d’Ivoire", "red heart", "red apple"])
    ids = tokenizer("red heart")["input_ids"]
    assert ids == [1, 4, *ids[2:3], 2]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "red heart"
    assert tokenizer.decode(tokenizer("flag: Côte d’Ivoire")["input_ids"][1:-1]) == "flag: Côte d’Ivoire"
    assert tokenizer("blue heart")["input_ids"][1] == UNKNOWN
    assert len(make_tokenizer([f"word{i}" for i in range(50)], vocab_size=20)) == 20


def test_pictures_of_any_shape_and_mode_become_square_on_white() -> None:
    tall = Image.new("RGBA", (10, 20), (255, 0, 0, 255))
    pixels = np.asarray(pad_to_square(tall, 20))
    assert pixels.shape == (20, 20, 3)
    assert pixels[:, :4].min() == 255
    np.testing.assert_array_equal(pixels[10, 10], [255, 0, 0])
    assert np.asarray(pad_to_square(Image.new("RGBA", (8, 8)), 8)).min() == 255
    assert to_pixels([Image.new("L", (30, 7)), Image.new("P", (5, 5))], 24).shape == (2, 24, 24, 3)


def padded_first(image: Image.Image, side: int) -> Image.Image:
    """The definition of ``pad_to_square``: a white square around the whole image, then resized."""
    longer = max(image.size)
    frame = Image.new("RGB", (longer, longer), (255, 255, 255))
    frame.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    return frame if longer == side else frame.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    side=st.sampled_from([8, 16, 48, 64, 100, 224]),
    tile_pixels=st.sampled_from([1, 5_000, 1_000_000]),
)
@example(width=1999, height=3, side=48, tile_pixels=1_000_000)
@example(width=7, height=2400, side=16, tile_pixels=10_000)
def test_an_image_shrunk_before_it_is_padded_has_the_same_pixels(
    width: int, height: int, side: int, tile_pixels: int
) -> None:
    image = noise_images((height, width), seed=width)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clerestory.models.pixels.TILE_PIXELS", tile_pixels)
        pixels = np.asarray(pad_to_square(image, side))
    assert np.array_equal(pixels, np.asarray(padded_first(image, side)))


def test_an_extreme_strip_gets_margins_before_other_peoples_processors_see_it() -> None:
    ordinary = Image.new("RGB", (1000, 10), "red")
    assert model_input(ordinary) is ordinary
    strip = model_input(Image.new("RGB", (1, 30_000), "red"))
    assert strip.size == (300, 30_000)
    assert strip.getpixel((0, 15_000)) == (255, 255, 255)
    assert strip.getpixel((149, 15_000)) == (255, 0, 0)
