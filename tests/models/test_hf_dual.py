"""Hugging Face dual encoders: numbers as the model gives them when called by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.images import noise_images
from tests.support.tiny_hf import make_clip, make_llava, make_siglip, make_siglip2
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel

from clerestory.core.errors import CapabilityError, InputError, IntegrityError, NotFound
from clerestory.models import Embedder, Generator, Scorer, capabilities, open_reference, require_capability
from clerestory.models.adapters.hf_dual import DualEncoder

MAKERS = {"clip": make_clip, "siglip": make_siglip, "siglip2": make_siglip2}
TEXTS = ["a photo of a cat", "red", "what is this"]


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("hf") / request.param)


@pytest.fixture
def pictures() -> list[Image.Image]:
    return noise_images((40, 56), (64, 24), (33, 33))


def opened(folder: Path) -> DualEncoder:
    model = open_reference(f"hf:{folder}")
    assert isinstance(model, DualEncoder)
    return model


def test_it_embeds_and_scores_and_does_nothing_else(folder: Path) -> None:
    model = opened(folder)
    assert capabilities(model) == ("Embedder", "Scorer")
    assert isinstance(model, Embedder)
    assert isinstance(model, Scorer)
    assert not isinstance(model, Generator)


@torch.inference_mode()
def test_embeddings_are_those_of_the_model_called_by_hand(folder: Path, pictures: list[Image.Image]) -> None:
    model, hand = opened(folder), AutoModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
    expected = F.normalize(hand.get_image_features(**pixels).pooler_output, dim=-1).numpy()
    np.testing.assert_allclose(model.embed_images(pictures), expected, atol=1e-5)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = {"padding": True} if isinstance(hand, CLIPModel) else {"padding": "max_length", "max_length": 64}
    tokens = tokenizer(TEXTS, return_tensors="pt", **padding)
    if not isinstance(hand, CLIPModel):
        tokens.pop("attention_mask")  # as the original SigLIP: fill and text are not told apart
    expected = F.normalize(hand.get_text_features(**tokens).pooler_output, dim=-1).numpy()
    np.testing.assert_allclose(model.embed_texts(TEXTS), expected, atol=1e-5)


def test_rows_do_not_depend_on_their_neighbours(folder: Path, pictures: list[Image.Image]) -> None:
    model = opened(folder)
    alone = np.concatenate([model.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(model.embed_texts(TEXTS), alone, atol=1e-5)
    alone = np.concatenate([model.embed_images([picture]) for picture in pictures])
    np.testing.assert_allclose(model.embed_images(pictures), alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.embed_images(pictures * 15), axis=1), 1, atol=1e-5)
    assert model.embed_images([]).shape == (0, model.dims[-1])
    assert model.embed_texts([]).shape == (0, model.dims[-1])
    with pytest.raises(CapabilityError, match="width 3"):
        model.embed_texts(["a"], 3)


@torch.inference_mode()
def test_options_score_as_clips_own_logits(pictures: list[Image.Image], tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "clip")
    model, hand = opened(folder), CLIPModel.from_pretrained(folder).eval()
    assert model.logit_scale == pytest.approx(math.exp(2.6592), rel=1e-5)
    options = ["a red cat", "a blue square", "no"]
    pixels = AutoImageProcessor.from_pretrained(folder)(images=pictures[:1], return_tensors="pt")
    tokens = AutoTokenizer.from_pretrained(folder)(options, padding=True, return_tensors="pt")
    expected = hand(**pixels, **tokens).logits_per_image.log_softmax(dim=-1)[0].numpy()
    found = model.score_options([pictures[0], None], ["", "this is"], [options, ["a cat", "a dog"]])
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    grey = Image.new("RGB", (224, 224), (128, 128, 128))
    cosines = model.embed_texts(["this is a cat", "this is a dog"]) @ model.embed_images([grey])[0]
    assert found[1][0] - found[1][1] == pytest.approx(model.logit_scale * float(cosines[0] - cosines[1]), abs=1e-4)
    np.testing.assert_allclose([np.exp(some).sum() for some in found], 1)
    assert model.order_matters is False
    assert "grey" in model.facts()["no_image"]
    with pytest.raises(InputError, match="item 0 has no options"):
        model.score_options([None], ["x"], [[]])
    with pytest.raises(InputError, match=r"questions \(2\) and lists of options \(1\) differ"):
        model.score_options([None], ["x", "y"], [["a"]])


def test_a_text_that_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    model = opened(make_clip(tmp_path / "clip"))
    long = "a red cat " * 30
    np.testing.assert_allclose(model.embed_texts([long]), model.embed_texts(["a red cat " * 4]), atol=1e-6)
    assert model.num_truncated == 2
    model.embed_texts(["a red cat"])
    assert model.num_truncated == 2


def test_siglip_tells_its_bias_and_reads_64_pieces(tmp_path: Path) -> None:
    facts = opened(make_siglip(tmp_path / "s")).facts()
    assert facts["max_text_tokens"] == 64
    assert "logit_bias" in facts


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    model = opened(make_clip(tmp_path / "clip"))
    clear, white = Image.new("RGBA", (30, 30), (9, 9, 9, 0)), Image.new("RGB", (30, 30), (255, 255, 255))
    np.testing.assert_array_equal(model.embed_images([clear]), model.embed_images([white]))


def test_the_digest_is_that_of_what_makes_the_model(tmp_path: Path) -> None:
    first, second = make_clip(tmp_path / "a"), make_clip(tmp_path / "b")
    assert opened(first).digest == opened(second).digest
    (second / "README.md").write_text("hello", encoding="utf-8")
    assert opened(first).digest == opened(second).digest
    assert opened(make_clip(tmp_path / "c", seed=1)).digest != opened(first).digest


def test_a_folder_that_is_no_sound_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no model folder"):
        open_reference(str(tmp_path / "nowhere"))
    with pytest.raises(IntegrityError, match=r"config\.json is missing"):
        open_reference(str(tmp_path))
    folder = make_clip(tmp_path / "clip")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(IntegrityError, match="weights of clip cannot be read"):
        open_reference(f"hf:{folder}")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CapabilityError, match="can run code"):
        open_reference(f"hf:{folder}")


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    trap = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(trap)!r}, 'w')", encoding="utf-8")
    with pytest.raises(CapabilityError, match="never run"):
        open_reference(f"hf:{folder}")
    assert not trap.exists()


def test_a_missing_capability_names_what_fits(tmp_path: Path) -> None:
    model = opened(make_clip(tmp_path / "clip"))
    assert require_capability(model, "Embedder") is model
    known = [("icons@3", ("Embedder", "Captioner")), ("icons@2", ("Embedder",))]
    with pytest.raises(CapabilityError) as caught:
        require_capability(model, "Captioner", "captioning", known)
    assert "captioning needs a model that can generate captions" in str(caught.value)
    assert "icons@3" in str(caught.value)
    assert "icons@2" not in str(caught.value)
    assert "hf:org/name" in str(caught.value)
    with pytest.raises(CapabilityError, match="this model can score given answers, generate captions"):
        require_capability(open_reference(f"hf:{make_llava(tmp_path / 'llava')}"), "Embedder", "search")


def test_a_long_text_is_truncated_and_counted_without_a_message_of_the_tokenizer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = open_reference(f"hf:{make_clip(tmp_path / 'clip')}")
    assert isinstance(model, DualEncoder)
    capfd.readouterr()
    model.embed_texts(["cat " * 500])
    assert model.num_truncated == 1
    assert capfd.readouterr() == ("", "")
