"""Images with similar embeddings, in groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageOps
from tests.support.faulty_data import jpeg, make_dataset, scene
from tests.support.tiny_model import make_tiny_model

from clerestory.apps import similar_images
from clerestory.apps.similar_images import find_similar_images
from clerestory.models import open_model
from clerestory.store import open_store


@pytest.mark.parametrize("max_exact", [10_000, 1])
def test_copies_have_similar_embeddings(max_exact: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_images, "MAX_EXACT", max_exact)
    model, store = open_model(make_tiny_model(tmp_path / "model")), open_store(tmp_path / "home")
    images = [(f"{i}.jpg", jpeg(scene(i)), "", "a scene") for i in range(5)]
    images += [("copy.jpg", jpeg(scene(0), quality=60), "", "a copy"), ("none.jpg", jpeg(blank()), "", "nothing")]
    data = make_dataset(images)
    assert find_similar_images(data, model, store, 0.0) == []
    (found,) = find_similar_images(data, model, store, 0.9995)
    assert ("0.jpg", "copy.jpg") in found.groups
    assert "none.jpg" not in found.samples
    assert found.code.code == "CLR-A019"


def blank() -> Image.Image:
    return ImageOps.invert(scene(9).convert("RGB"))
