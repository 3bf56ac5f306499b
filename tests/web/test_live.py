"""The served release follows the alias; whatever goes wrong on the way leaves the old one in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.tiny_model import make_tiny_model
from tests.web.conftest import World, build_world, put_to_gate

from clerestory.core.sample import Dataset
from clerestory.stages.release import promote, rollback
from clerestory.web.model_follower import Live
from clerestory.web.security import Turned


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, few_icons: Dataset, tiny_model: Path) -> Iterator[World]:
    """A store whose aliases may be moved, with a handful of pictures."""
    ids = {sample.id for sample in few_icons.samples[::6]}
    data = few_icons.where(lambda sample: sample.id in ids)
    other = make_tiny_model(tmp_path_factory.mktemp("b") / "model", few_icons, seed=2)
    made = build_world(tmp_path_factory.mktemp("live") / "home", data, other, tiny_model)
    yield made
    made.store.close()


def test_it_follows_keeps_and_recovers(own: World, tmp_path: Path) -> None:
    live = Live(own.store, own.data, "icons")
    assert live.why_not_ready
    with pytest.raises(Turned, match="still being loaded"):
        _ = live.served
    live.look()
    first = live.served
    assert first.release.ref == "icons@2"
    assert live.why_not_ready == ""

    third = put_to_gate(own.store, own.data, make_tiny_model(tmp_path / "third", own.data, seed=3), 0.0, "third")
    promote(third.ref, own.store, "grace", "newer")
    live.look()
    assert live.served.release.ref == "icons@3"
    # A request that began before goes on with what it had.
    assert first.release.ref == "icons@2"
    assert first.model.embed_texts(["cat"]).shape == (1, 384)

    rollback("icons", own.store, "grace", "rehearsal")
    live.look()
    assert live.served is first  # the one before is still in memory: a rollback loads nothing

    fourth = put_to_gate(own.store, own.data, make_tiny_model(tmp_path / "fourth", own.data, seed=4), 0.0, "fourth")
    promote(fourth.ref, own.store, "grace", "newest")
    weights = own.store.model_folder(fourth.model) / "model.safetensors"
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    live.look()
    assert live.served is first
    assert "icons@4" in live.trouble
    assert "model.safetensors" in live.trouble
    assert live.why_not_ready == ""

    rollback("icons", own.store, "grace", "the new one is damaged")
    live.look()
    assert live.served is first
    assert live.trouble == ""


def test_nothing_live_is_told_with_the_command(own: World) -> None:
    live = Live(own.store, own.data, "nobody")
    live.look()
    assert "clerestory release promote" in live.why_not_ready
