"""Real short trainings: injected faults are reported, healthy runs are not, and the monitor changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.support.training_faults import FAULTS, MAX_DETECTION_STEP, TrainingFault, healthy, start_run, trial

from clerestory.stages.train.monitor.record import StepRecord

SOME = {"CLR-T017", "CLR-T019", "CLR-T010", "CLR-T011"}  # quick ones; the bench injects all of them


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.code in SOME], ids=lambda f: f.name)
def test_an_injected_fault_is_reported(fault: TrainingFault, tmp_path: Path) -> None:
    reported = trial(fault, tmp_path, 30)
    assert fault.code in reported
    assert reported[fault.code] <= MAX_DETECTION_STEP


def test_a_healthy_run_has_no_findings(tmp_path: Path) -> None:
    assert healthy(tmp_path, 2) == {}


def test_the_monitor_changes_no_weight(tmp_path: Path) -> None:
    sizes = {"experts": 4}
    monitored, plain = start_run(tmp_path / "a", sizes=sizes), start_run(tmp_path / "b", sizes=sizes)
    plain.instrumentation.is_check = plain.instrumentation.is_full_check = lambda number: False  # type: ignore[method-assign]  # no checks
    for _ in range(8):
        monitored.step()
        plain.step()
    other = plain.model.state_dict()
    assert all(torch.equal(t, other[name]) for name, t in monitored.model.state_dict().items())
    assert all(torch.equal(t, plain.ema_state[name]) for name, t in monitored.ema_state.items())


def test_a_resumed_run_restores_its_monitor(tmp_path: Path) -> None:
    run = start_run(tmp_path, leak=True, learning_rate=0.2)
    for _ in range(6):
        run.step()
    run.save()
    again = start_run(tmp_path, leak=True, learning_rate=0.2)
    again.restore()
    codes = [f.code for f in again.instrumentation.monitor.findings()]
    assert codes == [f.code for f in run.instrumentation.monitor.findings()]
    assert "CLR-T017" in codes
    assert again.instrumentation.monitor.full_rate_steps == pytest.approx(
        run.instrumentation.monitor.full_rate_steps, rel=1e-4
    )
    again.step()
    assert not [f for f in again.new_findings if f.code in codes], "it is not reported twice"


def test_the_metrics_are_in_the_log(tmp_path: Path) -> None:
    run = start_run(tmp_path)
    run.step()
    run.validate()
    first, validation = (json.loads(line) for line in run.log.path.read_text(encoding="utf-8").splitlines())
    record = StepRecord.from_log(first)
    for name in (
        *("embedding_cosine", "embedding_rank", "update_ratio", "weight_norm", "caption_loss", "caption_loss_shuffled"),
        *("duplicate_share", "leaked_share", "chance_loss", "batch_accuracy"),
    ):
        assert getattr(record, name) is not None, name
    assert record.batch == 48
    assert StepRecord.from_log(validation).val_images == 48
