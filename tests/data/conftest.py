"""Fixtures of the data tests: a cache folder of their own, and small images on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.images import solid_image


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that nothing else uses."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLERESTORY_CACHE", str(folder))
    return folder


@pytest.fixture
def shop(tmp_path: Path, own_cache: Path) -> Path:
    """A folder of four images, one of them in a sub-folder, without captions."""
    folder = tmp_path / "shop"
    (folder / "shoes").mkdir(parents=True)
    for name, colour in {"a.png": "red", "b.jpg": "green", "c.webp": "blue", "shoes/d.png": "white"}.items():
        kind = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name.rpartition(".")[2]]
        (folder / name).write_bytes(solid_image(colour, kind=kind))
    return folder
