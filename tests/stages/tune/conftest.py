"""Trained tiny models and their data, for fine-tuning."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.stages.tune.scenes import write_scenes
from tests.support.shapes import counted_shapes
from tests.support.shared import shared_folder
from tests.support.tiny_hf import make_clip, make_siglip

from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.models.photo.encoder import PhotoEncoder
from clerestory.models.resolve import open_folder, open_reference
from clerestory.stages.train.tune import TuneConfig, tune
from clerestory.stages.train.tune.head.encoders import PhotoHeadEncoder
from clerestory.stages.train.tune.head.requirements import samples_for_head
from clerestory.stages.train.tune.head.run import _features
from clerestory.store import open_store

QUICK = {"batch_size": 48, "threads": 1, "num_validations": 2, "alphas": (0.0, 1.0), "lock": "none"}


def trained(
    factory: pytest.TempPathFactory, name: str, make_initial: Callable[[Path], Path], known: Dataset, rate: float
) -> Path:
    """A tiny dual encoder that was trained on the shapes, once for all test processes."""

    def make(folder: Path) -> None:
        settings = TuneConfig(learning_rate=rate, steps=160, **QUICK)  # type: ignore[arg-type]  # of mixed types
        with open_store(folder / "home") as store:
            result = tune(open_folder(make_initial(folder / "initial")), known, known, settings, store)
            shutil.copytree(store.model_folder(result.model), folder / "model")

    return shared_folder(factory, name, make) / "model"


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
    return trained(tmp_path_factory, "clip", make_clip, known, 2e-3)


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory, known: Dataset) -> Path:
    """A SigLIP that distinguishes them, somewhat."""
    return trained(tmp_path_factory, "siglip", make_siglip, known, 2e-3)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captioned drawings in ``data``, and in ``home`` a store with their features: the network is run once for all."""

    def make(folder: Path) -> None:
        write_scenes(folder / "data")
        photos = open_reference("photos")
        assert isinstance(photos, PhotoEncoder)
        data = open_data(str(folder / "data"))
        with open_store(folder / "home") as store:
            _features(PhotoHeadEncoder(photos), samples_for_head(data), data, store.answer_cache, QUIET)

    return shared_folder(tmp_path_factory, "scenes", make)
