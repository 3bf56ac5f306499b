"""Checkpoints: any change of a byte is noticed and reported, and the run goes on from the one before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from tests.support.shapes import counted_shapes
from torch import Tensor

from clerestory.core.sample import Dataset
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train.checkpoint import NAME, PREVIOUS, Position, read, write
from clerestory.stages.train.distributed import sharded_checkpoint
from clerestory.stages.train.distributed.ranks import Ranks
from clerestory.stages.train.loop import Run
from clerestory.store import open_store

EARLIER, LATER = Position(20, 1, 2.5), Position(40, 1, 5.0)


def state(value: float) -> dict[str, Tensor]:
    half = torch.full((2, 3), value, dtype=torch.bfloat16)
    return {
        "weights": torch.arange(5.0) + value,
        "half": half,
        "step": torch.tensor(int(value)),
        "none": torch.empty(0),
    }


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path: Path) -> None:
    for position, value in ((EARLIER, 1.0), (LATER, 2.0)):
        write(tmp_path / "good", position, state(value))
    whole = (tmp_path / "good" / NAME).read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :] for i in range(len(whole))]
    folder = tmp_path / "run"
    folder.mkdir()
    for content in damaged:
        shutil.copyfile(tmp_path / "good" / PREVIOUS, folder / PREVIOUS)
        (folder / NAME).write_bytes(content)
        messages: list[str] = []
        found = read(folder, messages.append)
        assert found is not None
        if not messages:  # padding of the header, which has no meaning
            assert found[0] == LATER
            assert same(found[1], state(2.0))
            continue
        assert messages == [f"the last checkpoint in {folder} is damaged, so the run continues from step 20"]
        assert found[0] == EARLIER
        assert same(found[1], state(1.0))


def test_without_an_intact_checkpoint_the_run_starts_again_and_says_so(tmp_path: Path) -> None:
    messages: list[str] = []
    assert read(tmp_path, messages.append) is None
    assert not messages, "a new run"
    write(tmp_path, LATER, state(2.0))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-1])
    assert read(tmp_path, messages.append) is None
    assert messages == [f"the last checkpoint in {tmp_path} is damaged, so the run starts again at step 0"]


def test_a_damaged_checkpoint_never_becomes_the_previous_one(tmp_path: Path) -> None:
    write(tmp_path, EARLIER, state(1.0))
    write(tmp_path, LATER, state(2.0))
    (tmp_path / NAME).write_bytes(b"damaged")
    assert read(tmp_path) is not None
    write(tmp_path, LATER, state(3.0))
    (tmp_path / NAME).write_bytes(b"damaged again")
    found = read(tmp_path)
    assert found is not None
    assert found[0] == EARLIER
    assert same(found[1], state(1.0))


def test_a_damaged_shard_is_noticed(tmp_path: Path) -> None:
    alone = Ranks()
    for position, value in ((EARLIER, 1.0), (LATER, 2.0)):
        sharded_checkpoint.write(tmp_path, position, state(value), alone)
    (tmp_path / "checkpoint-40").rename(tmp_path / "good")
    for file in sorted((tmp_path / "good").iterdir()):
        for change in (lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[: len(data) // 2], None):
            shutil.rmtree(tmp_path / "checkpoint-40", ignore_errors=True)
            shutil.copytree(tmp_path / "good", tmp_path / "checkpoint-40")
            victim = tmp_path / "checkpoint-40" / file.name
            if change is None:
                victim.unlink()
            else:
                victim.write_bytes(change(victim.read_bytes()))
            messages: list[str] = []
            found = sharded_checkpoint.latest(tmp_path, messages.append)
            assert found is not None
            assert found[0] == EARLIER
            # Without its position a checkpoint is an incomplete one, which is nothing unusual.
            expected = not (change is None and file.name == sharded_checkpoint.POSITION)
            assert [str(victim.parent) in message for message in messages] == [True] * expected
            loaded = state(0.0)
            sharded_checkpoint.read(found[1], loaded, alone)
            assert same(loaded, state(1.0))


class Lines:
    """Progress that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, label: str, total: int):  # type: ignore[no-untyped-def]  # of the quiet one
        from clerestory.core.progress import QUIET

        return QUIET.task(label, total)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return counted_shapes("shapes", train_images=2)


def test_a_run_with_a_damaged_checkpoint_ends_as_an_undisturbed_one(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(preset="tiny", steps=12, batch_size=16, threads=1, checkpoint_every=4, validate_every=0)
    store, save = open_store(tmp_path / "disturbed"), Run.save

    def interrupted(run: Run) -> None:
        save(run)
        if run.position.step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(data, config, store)
    (folder,) = store.runs.glob("train-*")
    damaged = bytearray((folder / NAME).read_bytes())
    damaged[-1] ^= 1
    (folder / NAME).write_bytes(damaged)
    progress = Lines()
    resumed = train(data, config, store, progress)
    assert f"the last checkpoint in {folder} is damaged, so the run continues from step 4" in progress.lines
    assert resumed.model == train(data, config, open_store(tmp_path / "undisturbed")).model


def test_without_hard_links_the_checkpoint_before_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links on this drive")

    monkeypatch.setattr(os, "link", refuse)
    for step in (1, 2):
        write(tmp_path, Position(step), {"w": torch.full((3,), float(step))})
    (tmp_path / NAME).write_bytes(b"damaged")
    found = read(tmp_path, lambda message: None)
    assert found is not None
    assert (found[0].step, found[1]["w"].tolist()) == (1, [1.0, 1.0, 1.0])
