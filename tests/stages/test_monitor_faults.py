"""Real short trainings: planted faults are named, healthy runs are left in peace, and watching changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.stages.faults import FAULTS, WITHIN, Fault, begin, healthy, trial

from clerestory.stages.train.monitor.record import StepRecord

SOME = {"CLR-T017", "CLR-T019", "CLR-T010", "CLR-T011"}  # quick ones; the bench plants all of them


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.code in SOME], ids=lambda f: f.name)
def test_a_planted_fault_is_named(fault: Fault, tmp_path: Path) -> None:
    named = trial(fault, tmp_path, 30)
    assert fault.code in named
    assert named[fault.code] <= WITHIN


def test_a_healthy_run_is_left_in_peace(tmp_path: Path) -> None:
    assert healthy(tmp_path, 2) == {}


def test_watching_changes_no_weight(tmp_path: Path) -> None:
    sizes = {"experts": 4}
    watched, alone = begin(tmp_path / "a", sizes=sizes), begin(tmp_path / "b", sizes=sizes)
    alone.instrumentation.is_check = alone.instrumentation.is_full_check = lambda number: False  # type: ignore[method-assign]  # nobody looks
    for _ in range(8):
        watched.step()
        alone.step()
    other = alone.model.state_dict()
    assert all(torch.equal(t, other[name]) for name, t in watched.model.state_dict().items())
    assert all(torch.equal(t, alone.average[name]) for name, t in watched.average.items())


def test_a_resumed_run_has_not_forgotten_what_it_saw(tmp_path: Path) -> None:
    run = begin(tmp_path, leak=True, learning_rate=0.2)
    for _ in range(6):
        run.step()
    run.save()
    again = begin(tmp_path, leak=True, learning_rate=0.2)
    again.restore()
    codes = [f.code for f in again.instrumentation.monitor.findings()]
    assert codes == [f.code for f in run.instrumentation.monitor.findings()]
    assert "CLR-T017" in codes
    assert again.instrumentation.monitor.full_rate_steps == pytest.approx(
        run.instrumentation.monitor.full_rate_steps, rel=1e-4
    )
    again.step()
    assert not [f for f in again.found if f.code in codes], "it is not said twice"


def test_what_was_seen_stands_in_the_log(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.step()
    run.validate()
    first, look = (json.loads(line) for line in run.log.path.read_text(encoding="utf-8").splitlines())
    record = StepRecord.from_log(first)
    for name in (
        *("embedding_cosine", "embedding_rank", "update_ratio", "weight_norm", "caption_loss", "caption_loss_shuffled"),
        *("duplicates", "leaked", "chance_loss", "batch_accuracy"),
    ):
        assert getattr(record, name) is not None, name
    assert record.batch == 48
    assert StepRecord.from_log(look).val_images == 48
