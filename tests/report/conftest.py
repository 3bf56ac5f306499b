"""The world the reports of these tests are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.report.world import World, make_world

from clerestory.report import report
from clerestory.store import open_store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return make_world(open_store(folder / "home"), folder / "scratch")


@pytest.fixture(scope="module")
def html(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    files = report(world.store, "icons@live", tmp_path_factory.mktemp("out"), world.data)
    return files.html.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def content(world: World, tmp_path_factory: pytest.TempPathFactory) -> Any:
    files = report(world.store, "icons@live", tmp_path_factory.mktemp("out"), world.data)
    return json.loads(files.json.read_text(encoding="utf-8"))


@pytest.fixture
def own_world(tmp_path: Path) -> World:
    """A world that a test may damage."""
    return make_world(open_store(tmp_path / "home"), tmp_path / "scratch")
