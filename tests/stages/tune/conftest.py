"""Models that know something, made in seconds, for fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.shapes import counted_shapes
from tests.support.tiny_hf import make_clip, make_siglip

from clerestory.core.sample import Dataset
from clerestory.models.resolve import open_folder
from clerestory.stages.train.tune import TuneConfig, tune
from clerestory.store import open_store

QUICK = {"batch": 48, "threads": 1, "looks": 2, "alphas": (0.0, 1.0), "lock": "none"}


def taught(folder: Path, made: Path, known: Dataset, rate: float) -> Path:
    """A tiny dual encoder that has learnt the shapes."""
    store = open_store(folder / "home")
    settings = TuneConfig(learning_rate=rate, steps=160, **QUICK)  # type: ignore[arg-type]  # of mixed types
    result = tune(open_folder(made), known, known, settings, store)
    return store.model_folder(result.model)


@pytest.fixture(scope="session")
def known() -> Dataset:
    """What the models know."""
    return counted_shapes()


@pytest.fixture(scope="session")
def retained() -> Dataset:
    """Other drawings of what they know, to see what is kept."""
    return counted_shapes("held", seed=100)


@pytest.fixture(scope="session")
def new() -> Dataset:
    """The same pictures with other words, which cost what is known when they are learnt too fast."""
    return counted_shapes("new", template="photo of {shape} yes {colour} no {count}", seed=50)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, known: Dataset) -> Path:
    """A CLIP that tells the shapes apart."""
    folder = tmp_path_factory.mktemp("clip")
    return taught(folder, make_clip(folder / "made"), known, 2e-3)


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory, known: Dataset) -> Path:
    """A SigLIP that tells them apart, somewhat."""
    folder = tmp_path_factory.mktemp("siglip")
    return taught(folder, make_siglip(folder / "made"), known, 2e-3)
