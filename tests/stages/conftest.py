"""Fixtures of the stages."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.release_life import DATA, Life

from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.store import Store


@pytest.fixture
def life(store: Store, tmp_path: Path) -> Life:
    """A store with the name of a dataset, in which models can be made and decided on."""
    event = Event("data_added", "icons", "Ada", "a test", now())
    store.put_dataset("icons", "icons", DATA, 10, event)
    return Life(store, tmp_path / "models")
