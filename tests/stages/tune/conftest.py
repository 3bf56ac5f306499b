"""Trained tiny models and their data, for fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.shapes import counted_shapes
from tests.support.tiny_hf import make_clip, make_siglip

from clerestory.core.sample import Dataset
from clerestory.models.resolve import open_folder
from clerestory.stages.train.tune import TuneConfig, tune
from clerestory.store import open_store

QUICK = {"batch_size": 48, "threads": 1, "num_validations": 2, "alphas": (0.0, 1.0), "lock": "none"}


def trained(folder: Path, initial: Path, known: Dataset, rate: float) -> Path:
    """A tiny dual encoder that was trained on the shapes."""
    store = open_store(folder / "home")
    settings = TuneConfig(learning_rate=rate, steps=160, **QUICK)  # type: ignore[arg-type]  # of mixed types
    result = tune(open_folder(initial), known, known, settings, store)
    return store.model_folder(result.model)


@pytest.fixture(scope="session")
def known() -> Dataset:
    """The data that the models were trained on."""
    return counted_shapes()


@pytest.fixture(scope="session")
def retained() -> Dataset:
    """Other images of the same captions, to measure retention."""
    return counted_shapes("held", seed=100)


@pytest.fixture(scope="session")
def new() -> Dataset:
    """The same images with other captions; learning these too fast destroys what was known."""
    return counted_shapes("new", template="photo of {shape} yes {colour} no {count}", seed=50)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, known: Dataset) -> Path:
    """A CLIP that distinguishes the shapes."""
    folder = tmp_path_factory.mktemp("clip")
    return trained(folder, make_clip(folder / "initial"), known, 2e-3)


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory, known: Dataset) -> Path:
    """A SigLIP that distinguishes them, somewhat."""
    folder = tmp_path_factory.mktemp("siglip")
    return trained(folder, make_siglip(folder / "initial"), known, 2e-3)
