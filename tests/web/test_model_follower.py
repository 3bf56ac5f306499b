"""The served release follows the alias; a failed load leaves the loaded one in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.released_store import add_release
from tests.support.tiny_model import make_tiny_model

from clerestory.core.release import Release
from clerestory.core.sample import Dataset
from clerestory.stages.release import promote, rollback
from clerestory.store import Store
from clerestory.web.model_follower import ModelFollower
from clerestory.web.security import RequestRejected


@pytest.fixture
def data(few_icons: Dataset) -> Dataset:
    """A handful of pictures."""
    ids = {sample.id for sample in few_icons.samples[::6]}
    return few_icons.filter(lambda sample: sample.id in ids)


class Recorder:
    """A progress that remembers what it was shown: each task with the steps that were done."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, int, int]] = []

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Recorder]:
        self.tasks.append((label, total, 0))
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        label, total, done = self.tasks[-1]
        self.tasks[-1] = (label, total, done + steps)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def release_another(store: Store, folder: Path, seed: int) -> Release:
    """Release and promote a new model."""
    release = add_release(store, make_tiny_model(folder / str(seed), seed=seed))
    promote(release.ref, store, "grace", "newer")
    return release


def test_it_follows_the_alias_and_recovers(store: Store, data: Dataset, tmp_path: Path) -> None:
    add_release(store, make_tiny_model(tmp_path / "0"), "refuse")
    release_another(store, tmp_path, 1)
    progress = Recorder()
    follower = ModelFollower(store, data, "icons", progress)
    assert follower.not_ready_reason
    with pytest.raises(RequestRejected, match="is being loaded"):
        _ = follower.loaded
    follower.poll()
    assert progress.tasks[0][0] == "Embedding images"
    assert all(done == total > 0 for _, total, done in progress.tasks)
    assert "embedding images with icons@2" in progress.lines[0]
    first = follower.loaded
    assert first.release.ref == "icons@2"
    assert follower.not_ready_reason == ""

    release_another(store, tmp_path, 2)
    follower.poll()
    assert follower.loaded.release.ref == "icons@3"
    # A request that began before still uses its own model.
    assert first.release.ref == "icons@2"
    assert first.model.embed_texts(["cat"]).shape == (1, 384)

    rollback("icons", store, "grace", "rehearsal")
    follower.poll()
    assert follower.loaded is first  # the previous one is still in memory: a rollback loads nothing

    fourth = release_another(store, tmp_path, 3)
    weights = store.model_folder(fourth.model) / "model.safetensors"
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    follower.poll()
    assert follower.loaded is first
    assert "icons@4" in follower.load_error
    assert "model.safetensors" in follower.load_error
    assert follower.not_ready_reason == ""

    rollback("icons", store, "grace", "the new one is damaged")
    follower.poll()
    assert follower.loaded is first
    assert follower.load_error == ""


def test_without_a_live_release_the_reason_names_the_command(store: Store, data: Dataset) -> None:
    follower = ModelFollower(store, data, "nobody")
    follower.poll()
    assert "clerestory release promote" in follower.not_ready_reason
