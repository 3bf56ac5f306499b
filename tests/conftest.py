"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from clerestory.core.sample import Dataset
from clerestory.store import Store, open_store

# One machine, two cores: libraries that start a thread per core in every test process only wait for each other, up to a
# hundred times as long. The processes of pytest-xdist, and those that tests start, begin with these variables.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


# The same examples in every run, so that a failure is that of a change; `--hypothesis-profile default` draws others.
hypothesis.settings.register_profile("reproducible", derandomize=True)
hypothesis.settings.load_profile("reproducible")


# Files of a minute each: begun first, so that no test process works on one alone at the end. The first file of
# ``tests/web`` makes the store of all of them, for which another process would wait.
FIRST = ("stages/test_distributed.py", "web/test_api.py", "test_contributing.py", "test_docs_run.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the files in ``FIRST`` first, with ``--no-loadscope-reorder`` also among several processes."""
    first = [Path(__file__).parent / name for name in FIRST]
    items.sort(key=lambda item: first.index(item.path) if item.path in first else len(first))


@pytest.fixture(scope="session")
def icons() -> Dataset:
    """All the built-in icons; rendered once on a machine, about a minute."""
    from clerestory.data import open_data

    return open_data("icons")


@pytest.fixture(scope="session")
def few_icons(icons: Dataset) -> Dataset:
    """Some hundred pictures of every split and a few styles, without skin-tone variants."""
    styles = {"twemoji", "openmoji", "noto"}
    plain = [s for s in icons if s.groups["style"] in styles and s.groups["skin_tone"] == "none"]
    concepts = set(sorted({s.concept for s in plain})[::12])
    ids = {s.id for s in plain if s.concept in concepts}
    return icons.filter(lambda s: s.id in ids)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, few_icons: Dataset) -> Path:
    """The folder of a tiny model: random image tower and decoder, the real text tower."""
    from tests.support.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", few_icons)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of its own."""
    return open_store(tmp_path / "home")
